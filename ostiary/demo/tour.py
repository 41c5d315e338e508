"""The tour: each step runs real commands, shows what they wrote, and checks its own claim against that.

A claim that does not hold ends the tour (`DemoFailed`): the demo never says more than it saw.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ostiary.demo.screen import Screen
from ostiary.demo.world import DemoFailed, Done, World

SEALED_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Stand:
    """Where an entry stands: in which log, under which number."""

    origin: str
    index: int
    entry: dict[str, Any]


class Tour:
    """One walk through the world."""

    def __init__(self, world: World, screen: Screen) -> None:
        self._world = world
        self._screen = screen
        self._password: dict[str, str] = {}
        self._psql = f"psql -h 127.0.0.1 -p {world.port} -d shop"

    def walk(self) -> None:
        """All steps, in order. Raises `DemoFailed` at the first claim that does not hold."""
        asked = self._who_asked()
        self._masked()
        self._refused()
        self._verified()
        self._tampered(asked)

    # --- the steps ---

    def _who_asked(self) -> Stand:
        screen = self._screen
        screen.title("1  A query, and who really asked")
        screen.text(
            """Ana works in support. Her coding agent wants to look something up for her. It has a token of the identity
            provider that says both: Ana is the subject, the agent acts for her. It exchanges that for a token of the
            gateway, good for this database and for an hour."""
        )
        done = self._run("ostiary token shop --from file:agent.jwt > token")
        self._see("the agent has a token", done.code == 0)
        self._password = {"PGPASSWORD": (self._world.folder / "token").read_text().strip()}
        screen.text("The token is the password, and psql is the psql that was there before:")
        query = "SELECT id, name, city FROM customers WHERE id < 4"
        done = self._run(f'PGPASSWORD=$(cat token) {self._psql} -c "{query}"')
        self._see("psql got its three rows", done.code == 0 and "(3 rows)" in done.text)
        screen.text("Before the database saw the query, this was on the disk:")
        done = self._run("ostiary audit search --actor agent:coder --kind intent")
        self._see("one intent is on record", done.code == 0 and len(done.text.splitlines()) == 1)
        entry_id = done.text.split()[-1]
        done = self._run(f"ostiary audit show {entry_id} | sed -n '/^closed/q; /^  who:/,/^    sub:/p'")
        stand = self._stand(entry_id)
        who = stand.entry["who"]
        acting = [actor["sub"] for actor in who["act"]]
        self._see("it names Ana as the subject", who["sub"] == "ana" and "ana" in done.text)
        self._see("and, acting for her, her agent", acting == ["agent:coder"] and "agent:coder" in done.text)
        return stand

    def _masked(self) -> None:
        screen = self._screen
        screen.title("2  A masked column")
        screen.text(
            """The column card is protected by the configuration; of a card number, four digits are left. E-mail addresses
            nobody had to name: a detector finds them in every text that comes back, also in notes. (From here on the token is in PGPASSWORD.)"""
        )
        done = self._query("SELECT name, email, card FROM customers")
        self._see("each card shows its last four digits", len(re.findall(r"\*{12}\d{4}", done.text)) == 5)
        self._see("no e-mail address is left", done.code == 0 and "@" not in done.text)
        done = self._query("SELECT id, note FROM orders WHERE id IN (1003, 1005)")
        gone = "@" not in done.text and not re.search(r"\d{4} \d{4}", done.text)
        self._see(
            "nor in a note, nor a card number there", done.code == 0 and "if the other card fails" in done.text and gone
        )
        done = self._query("SELECT name FROM customers WHERE card LIKE '4111%'")
        self._see("and what cannot be seen cannot be guessed by filtering", done.code != 0 and "Mira" not in done.text)

    def _refused(self) -> None:
        screen = self._screen
        screen.title("3  A DROP TABLE, refused")
        screen.text(
            """The account that the gateway uses owns the tables, so PostgreSQL would do it. A policy says no, by name, and
            says what to do instead. The session goes on."""
        )
        self._run("grep -A 8 no-schema-changes policy.cedar")
        done = self._query("DROP TABLE orders", "SELECT count(*) FROM orders")
        self._see("the policy is named", "Refused by policy no-schema-changes-in-production" in done.text)
        self._see("it says what to do", "by a migration" in done.text and "HINT:" in done.text)
        self._see(
            "the table is still there, and so is the session", re.search(r"^ +6$", done.text, re.MULTILINE) is not None
        )
        done = self._run("ostiary audit search --verdict deny --by no-schema-changes-in-production")
        named = "Ana Souza → Ana's coding agent" in done.text and "DROP TABLE orders" in done.text
        self._see("the refusal is on record, under both names", done.code == 0 and named)

    def _verified(self) -> None:
        screen = self._screen
        screen.title("4  The log, verified by a stranger")
        screen.text(
            """An auditor gets a copy of the log and the root's public key, and trusts neither this machine nor us. The
            verifier is one file that shares no code with what wrote the log."""
        )
        self._wait_sealed()
        done = self._run("cp -r state/audit evidence && cp state/keys/root.vkey .")
        self._see("copied", done.code == 0)
        done = self._run("ostiary audit verify evidence --root root.vkey")
        self._see("every entry, tile, signature and recording is whole", done.code == 0 and "TAMPERED" not in done.text)

    def _tampered(self, asked: Stand) -> None:
        screen = self._screen
        screen.title("5  One byte changed")
        screen.text("Somebody would rather that it had not been Ana, and changes one letter in the copy: Ana to Ava.")
        file, offset = self._letter(asked)
        where = file.relative_to(self._world.folder)
        before = (self._world.folder / where).read_bytes()
        done = self._run(f"printf v | dd of={where} bs=1 seek={offset} conv=notrunc status=none")
        after = file.read_bytes()
        differing = [at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
        self._see("one byte of the file differs", done.code == 0 and differing == [offset])
        done = self._run("ostiary audit verify evidence --root root.vkey")
        named = f"first bad entry: {asked.index}\n" in done.text
        self._see("the verifier says no", done.code == 1 and "TAMPERED" in done.text)
        self._see(f"and names the entry: {asked.index}, the query of step 1", named)

    # --- how ---

    def _query(self, *statements: str) -> Done:
        return self._run(" ".join([self._psql, *(f'-c "{statement}"' for statement in statements)]))

    def _run(self, command: str) -> Done:
        self._screen.command(command.strip())
        done = self._world.sh(command, **self._password)
        if done.text:
            self._screen.output(done.text)
        return done

    def _see(self, claim: str, holds: bool) -> None:
        self._screen.seen(claim, holds=holds)
        if not holds:
            raise DemoFailed(f"the demo did not do what it claims: {claim}")

    def _stand(self, entry_id: str) -> Stand:
        done = self._world.sh(f"ostiary audit show -o json {entry_id}")
        if done.code:
            raise DemoFailed(f"entry {entry_id} cannot be shown: {done.text}")
        found = json.loads(done.text)
        return Stand(found["origin"], found["index"], found["entry"])

    def _wait_sealed(self) -> None:
        """Wait until a signed checkpoint covers everything: a second, normally."""
        deadline = time.monotonic() + SEALED_SECONDS
        while True:
            done = self._world.sh("ostiary audit verify -o json")
            reports = json.loads(done.text) if done.code == 0 else []
            if reports and not any(r["unsigned"] or r["open_intents"] or r["open_sessions"] for r in reports):
                return
            if time.monotonic() > deadline:
                raise DemoFailed(f"the log was not sealed in time: {done.text}")
            time.sleep(0.2)

    def _letter(self, asked: Stand) -> tuple[Path, int]:
        """File and offset of the second letter of Ana's name in the entry, in the newest published bundle."""
        bundles = (self._world.folder / "evidence" / asked.origin / "log/tile/entries/000.p").iterdir()
        file = max(bundles, key=lambda path: int(path.name))
        data, at = file.read_bytes(), 0
        for _ in range(asked.index):
            at += 2 + int.from_bytes(data[at : at + 2], "big")  # u16be length | entry: docs/log-format.md, 4
        return file, data.index(b'"name":"Ana Souza"', at) + len('"name":"A')
