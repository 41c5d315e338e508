"""A child that appends sessions until it is killed, and prints what was acknowledged: index and entry's id."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

from ostiary.audit.log import open_log
from ostiary.audit.writer import LogBusy

spec = importlib.util.spec_from_file_location("audit_writer_makers", Path(__file__).with_name("conftest.py"))
makers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(makers)


async def main(state: Path, tail_dir: Path, mode: str) -> None:
    log = open_log(
        state, "gw1", "w0", scrub=str, loop=asyncio.get_running_loop(), year=2026, tail_dir=tail_dir,
        tail_bytes=1 << 20, segment_bytes=1 << 18, patience=makers.PATIENCE_SECONDS,
    )  # fmt: skip
    writer = log.writer
    print("size", log.report.size, flush=True)

    async def session() -> None:
        one = makers.OneSession()
        await put(one.start())
        for _ in range(1_000_000):
            intended, entry = one.intent()
            await put((intended.entry, entry))
            writer.append(one.outcome(intended), closing=True)

    async def put(made: tuple[str, bytes]) -> None:
        name, entry = made
        try:
            index = writer.append(entry)
        except LogBusy:
            await writer.wait_room(10)
            index = writer.append(entry)
        if mode == "strict":
            await writer.wait_durable(index)
        print(index, name, flush=True)
        await asyncio.sleep(0)

    await asyncio.gather(*[session() for _ in range(8)])


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
