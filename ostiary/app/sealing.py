"""Keeps a sealer process beside a log: it alone holds the signing key, and is started again if it dies."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Final

import structlog

from ostiary.audit.log import Log
from ostiary.audit.sealer import seal_once, start_sealer
from ostiary.driver.spawn import spawn

_PAUSE_SECONDS: Final = 1.0
_log = structlog.get_logger("ostiary")


class Sealing:
    """The sealer of one log."""

    def __init__(self, log: Log, interval: float, witnesses: Path | None = None, witness_lag: float = 0.0) -> None:
        self._log = log
        self._interval = interval
        self._witnesses = witnesses
        self._witness_lag = witness_lag
        # The far end stays open here, so that a successor takes up where the one before it left.
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = self._start()
        log.writer.attach_sealer(ours)
        self._watching = spawn(self._watch(), "sealer")
        self._finishing = spawn(self._finish(), "sealing earlier logs")

    def _start(self) -> subprocess.Popen[bytes]:
        return start_sealer(
            self._log.origin, self._theirs.fileno(), interval=self._interval,
            witnesses=self._witnesses, witness_lag=self._witness_lag,
        )  # fmt: skip

    async def _finish(self) -> None:
        """Have the ends of earlier logs signed, and witnessed; what fails is tried again at the next start."""
        for earlier in self._log.finished:
            code = await asyncio.get_running_loop().run_in_executor(None, seal_once, earlier, self._witnesses)
            if code:
                _log.error("the end of an earlier log could not be signed", log=earlier.name, code=code)

    async def finished(self) -> None:
        """Wait until the ends of earlier logs were looked after."""
        await self._finishing

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            if self._process.poll() is not None:
                _log.error(
                    "the sealer died; starting it again", log=self._log.origin.name, code=self._process.returncode
                )
                self._process = self._start()

    async def close(self) -> None:
        """Close the log, and let the sealer sign its last entries and end."""
        self._watching.cancel()
        await self._log.writer.close()
        self._theirs.close()
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.run_in_executor(None, self._process.wait), 10)
        except TimeoutError:
            self._process.kill()
