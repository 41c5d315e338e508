"""Builds the kernel. Everything else about the project stands in pyproject.toml.

The modules in COMPILED are plain Python, typed by the `.pxd` beside each. Where Cython and a C compiler are there they
become extensions; where not, or where a build fails, the same files run as they are, and a warning says so.
`OSTIARY_PURE=1` leaves compiling out, `OSTIARY_REQUIRE_COMPILED=1` makes its failure an error, `OSTIARY_CFLAGS` replaces
the compiler's flags (`-O1 -g -fsanitize=address` for a fuzz run), `OSTIARY_ANNOTATE=1` writes Cython's reports. For development: `python setup.py build_ext --inplace`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent

COMPILED = sorted(path.with_suffix(".py").relative_to(ROOT) for path in ROOT.glob("ostiary/kernel/*.pxd"))

LINE = [
    Path("ostiary") / module
    for module in (
        "audit/drafts.py", "audit/drain.py", "audit/entries.py", "audit/ids.py", "audit/journal.py", "audit/tail.py", "audit/tree.py",
        "audit/unfinished.py", "audit/wal.py", "audit/writer.py", "catalogue/holder.py", "masking/concealed.py", "masking/mask.py",
        "model/commands.py", "model/decisions.py", "model/nouns.py", "model/operations.py", "model/proofs.py", "model/results.py",
        "policy/decide.py", "policy/policies.py", "driver/http_asker.py", "driver/http_client.py", "driver/http_exchange.py", "driver/http_gate.py", "driver/http_pool.py", "driver/http_session.py",
        "masking/counts.py", "masking/http.py",
        "protocols/http/decode.py", "protocols/http/encode.py", "protocols/http/login.py", "protocols/http/messages.py", "protocols/http/operations.py", "protocols/http/places.py",
        "protocols/http/relay.py", "protocols/http/results.py", "protocols/http/states.py", "protocols/postgres/answering.py", "protocols/postgres/asking.py",
        "protocols/postgres/conversation.py", "protocols/postgres/decode.py", "protocols/postgres/relay.py", "protocols/postgres/states.py", "protocols/postgres/understand/judge.py",
        "protocols/postgres/understand/view.py", "protocols/postgres/understanding.py", "protocols/relay.py", "recording/recorder.py", "session/world.py",
        "driver/ssh_channel.py", "driver/ssh_sides.py", "protocols/ssh/alone.py", "protocols/ssh/echo.py", "protocols/ssh/files.py", "protocols/ssh/messages.py",
        "protocols/ssh/relay.py", "protocols/ssh/results.py", "protocols/ssh/sftp.py", "upstream/ssh_packets.py", "upstream/ssh_wire.py", "vault/payload_format.py", "vault/payloads.py",
    )
]  # fmt: skip
"""What every message passes: plain Python, typed by the `.pxd` beside it where there is one (docs/decisions/0008-compiled-line.md,
0019-typed-nouns.md)."""

COROUTINES = [Path("ostiary/driver/lane.py"), Path("ostiary/driver/session.py"), Path("ostiary/session/exchange.py"), Path("ostiary/session/path.py")]
"""As LINE; but a `.pxd` cannot type what is local to a coroutine, so here the annotations in the source do."""

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": True,  # the input is hostile: every access is checked
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,  # no division here has a negative operand or a zero divisor
    "annotation_typing": False,  # types come from the .pxd alone; annotations in the source are for people and mypy
    "embedsignature": False,
}


PLAIN_DIRECTIVES = DIRECTIVES | {"wraparound": True}
"""Untyped code may index from the end."""

COROUTINE_DIRECTIVES = PLAIN_DIRECTIVES | {"annotation_typing": True}


class OptionalBuild(build_ext):
    """Compile if it can be done; else say so and go on uncompiled."""

    def run(self) -> None:
        """Build all extensions; a missing compiler is no error."""
        try:
            super().run()
        except Exception as exc:  # noqa: BLE001 - whatever a foreign toolchain raises, the sources run uncompiled
            self._warn("extensions", exc)

    def build_extension(self, ext: Extension) -> None:
        """Build one extension; a failure leaves every module uncompiled."""
        try:
            super().build_extension(ext)
        except Exception as exc:  # noqa: BLE001 - as above
            self._warn(ext.name, exc)

    def copy_extensions_to_source(self) -> None:
        """Put what was built beside the sources: all or nothing, as compiled modules know the layout of one another's types."""
        if all(
            Path(self.build_lib, self.get_ext_filename(self.get_ext_fullname(ext.name))).exists() for ext in self.extensions
        ):
            super().copy_extensions_to_source()

    def _warn(self, what: str, exc: Exception) -> None:
        if os.environ.get("OSTIARY_REQUIRE_COMPILED"):
            raise exc
        print(f"warning: {what} not compiled ({exc}); it will run as plain Python, slower", file=sys.stderr)  # noqa: T201


def extensions() -> list[Extension]:
    """The extensions to build, as C; none when compiling is off or Cython is missing."""
    if os.environ.get("OSTIARY_PURE"):
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415 - a build without it must still work
        from Cython.Compiler.Errors import CompileError  # noqa: PLC0415
    except ImportError:
        print("warning: no Cython; the kernel will run as plain Python, slower", file=sys.stderr)  # noqa: T201
        return []
    flags = os.environ.get("OSTIARY_CFLAGS", "-O3 -g0").split()
    try:
        return [
            extension
            for paths, directives in (
                (COMPILED, DIRECTIVES), (LINE, PLAIN_DIRECTIVES), (COROUTINES, COROUTINE_DIRECTIVES)
            )
            for extension in cythonize(
                [
                    Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=flags)
                    for path in paths
                ],
                compiler_directives=directives,
                annotate=bool(os.environ.get("OSTIARY_ANNOTATE")),
                build_dir="build/cython",
                nthreads=0,
            )
        ]
    except CompileError:
        if os.environ.get("OSTIARY_REQUIRE_COMPILED"):
            raise
        print("warning: Cython could not translate the kernel; it will run as plain Python", file=sys.stderr)  # noqa: T201
        return []


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
