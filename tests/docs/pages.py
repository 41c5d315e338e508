"""Takes the fenced blocks out of a page, and makes them one shell script that runs them in order.

A block that can be run has a comment in the line above its fence, which readers of the rendered page do not see:

    <!-- run -->              the block runs, and ends with 0 (`sh` by the shell, `python` by Python)
    <!-- run: exit 1 -->      it ends with this code
    <!-- run: background -->  it goes on until the page is over, and says `ready` when it is
    <!-- file: NAME -->       it is the content of this file
    <!-- serve: NAME -->      laid over the demo's configuration it is this file, and a gateway runs with it
    <!-- not run: WHY -->     it is for people, and WHY says why no test runs it

A `sh`, `python` or `toml` block without one of these is a mistake.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

MUST_BE_MARKED = {"sh", "python", "toml", "cedar"}
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    line: int
    language: str
    verb: str
    detail: str
    text: str


def blocks(page: Path) -> list[Block]:
    content = page.read_text()
    found = []
    for match in _BLOCK.finditer(content):
        line = content.count("\n", 0, match.start("language")) + 1
        verb, _, detail = (match["mark"] or "").partition(": ")
        found.append(Block(line, match["language"], verb, detail, match["text"]))
    return found


def script(
    page: Path, *, replace: Mapping[str, str], python: str, folder: Path, overlay: Callable[[str, str], None]
) -> str:
    """The page's blocks as a script for `sh`. `overlay(name, toml)` makes the file that a `serve` block stands for."""
    lines = [
        "set -eu",
        "started=",
        "trap 'for pid in $started; do kill $pid; wait $pid || true; done' EXIT",
        "ready() { for i in $(seq 600); do grep -q '\\bready\\b' $1 && return; sleep 0.1; done; cat $1; return 1; }",
    ]
    for block in blocks(page):
        text = block.text
        for old, new in replace.items():
            text = text.replace(old, new)
        here = f"{page.name}:{block.line}"
        lines.append(f"echo '### {here}' >&2")
        log = f"{page.stem}-{block.line}.log"
        match (block.verb, block.detail):
            case ("file", name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                lines.append(f"cat > {shlex.quote(name)} <<'END OF FILE'\n{text}END OF FILE")
            case ("serve", name):
                overlay(name, text)
                lines += [
                    f"ostiary init -c {name}",
                    f"ostiary serve -c {name} > {log} 2>&1 &",
                    'started="$started $!"',
                    f"ready {log}",
                ]
            case ("run", "background"):
                lines += [f"{text.strip()} > {log} 2>&1 &", 'started="$started $!"', f"ready {log}"]
            case ("run", "") if block.language == "python":
                lines.append(f"{shlex.quote(python)} - <<'END OF PROGRAM'\n{text}END OF PROGRAM")
            case ("run", ""):
                lines.append(text)
            case ("run", expected) if expected.startswith("exit "):
                lines += ["code=0", f"( {text} ) || code=$?", f"[ $code = {expected.removeprefix('exit ')} ]"]
            case _:
                lines.pop()
    return "\n".join(lines) + "\n"
