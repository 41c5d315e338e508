"""The disk thread's short way does what the long one does, without the interpreter, and does nothing where there is more to do."""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import os
import resource
import struct
import sys
import threading
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace

import google_crc32c
import pytest

import ostiary.audit

NAMES = ("inline", "disk", "tail", "drain")
FOLDER = Path(ostiary.audit.__file__).parent
SIZE = 1 << 16


def plain_modules() -> SimpleNamespace:
    """The uncompiled twins, beside whatever the rest of the program imported."""
    before = {name: sys.modules.pop(f"ostiary.audit.{name}", None) for name in NAMES}
    held = {name: getattr(ostiary.audit, name, None) for name in NAMES}
    loaded: dict[str, ModuleType] = {}
    try:
        for name in NAMES:
            full, path = f"ostiary.audit.{name}", str(FOLDER / f"{name}.py")
            spec = importlib.util.spec_from_file_location(full, path, loader=SourceFileLoader(full, path))
            module = importlib.util.module_from_spec(spec)
            sys.modules[full] = loaded[name] = module
            setattr(ostiary.audit, name, module)
            spec.loader.exec_module(module)
    finally:
        for name in NAMES:
            sys.modules.pop(f"ostiary.audit.{name}", None)
            if before[name] is not None:
                sys.modules[f"ostiary.audit.{name}"] = before[name]
            if held[name] is not None:
                setattr(ostiary.audit, name, held[name])
    return SimpleNamespace(**loaded)


@pytest.fixture(params=["plain", "built"])
def audit(request) -> SimpleNamespace:
    if request.param == "plain":
        return plain_modules()
    modules = SimpleNamespace(**{name: importlib.import_module(f"ostiary.audit.{name}") for name in NAMES})
    if not modules.drain.__file__.endswith((".so", ".pyd")):
        pytest.skip("the line is not compiled in this tree: python setup.py build_ext --inplace")
    return modules


class Setting:
    """A ring, a file for what it holds, and what stands between them."""

    def __init__(self, audit: SimpleNamespace, folder: Path, limit: int = 1 << 20) -> None:
        self.drain_module = audit.drain
        self.tail = audit.tail.TailFile(folder, "gw1-0/w0/2026", SIZE).begin(0, bytes(16))
        self.place = audit.drain.Place(0, limit)
        self.path = folder / "log"
        self.open(self.path)
        self.drain = audit.drain.Drain(self.tail, self.place)
        self.drain.look_at = time.monotonic() + 3600
        self.drain.tell_at = 1 << 40

    def open(self, path: Path, offset: int = 0) -> None:
        self.fd = os.open(path, os.O_RDWR | (0 if path.is_char_device() else os.O_CREAT), 0o600)
        self.place.move(self.fd, path, offset)

    def bring(self) -> int:
        self.drain.ring(plain=True)
        return self.drain.wait() if self.drain.waiting else self.drain.bring()


@pytest.fixture
def setting(audit, tmp_path):
    made = Setting(audit, tmp_path)
    yield made
    made.drain.close()
    made.tail.close(remove=False)
    os.close(made.fd)


def frame(entry: bytes) -> bytes:
    return struct.pack("<II", len(entry), google_crc32c.value(entry)) + entry


def test_what_the_ring_holds_is_on_the_disk_in_order_however_often_it_goes_round(setting):
    wrote = b""
    for n in range(60):
        entries = [b"%d." % n + b"x" * (n * 97 % 3000) for _ in range(3)]
        for entry in entries:
            assert setting.tail.append(entry) >= 0
        assert setting.bring() == 0
        wrote += b"".join(map(frame, entries))
        assert (setting.drain.durable, setting.place.index, setting.place.offset) == (3 * n + 3, 3 * n + 3, len(wrote))
        assert setting.tail.used() == 0
    assert len(wrote) > 3 * SIZE
    assert setting.path.read_bytes() == wrote
    assert setting.drain.busy_since == 0.0


def test_a_thread_goes_on_by_itself_until_somebody_waits(setting):
    came: list[int] = []
    thread = threading.Thread(target=lambda: came.append(setting.drain.wait()))
    thread.start()
    for n in range(1, 200):
        setting.tail.append(b"e" * 1000)
        setting.drain.ring(plain=True)
        while setting.drain.durable < n:
            time.sleep(0)
    assert thread.is_alive()
    setting.tail.append(b"e")
    setting.drain.waiting = True
    setting.drain.ring(plain=True)
    thread.join(30)
    assert came == [setting.drain_module.TELL]
    assert setting.drain.durable == 200


def test_no_interpreter_is_needed(setting):
    if not setting.drain_module.__file__.endswith((".so", ".pyd")):
        pytest.skip("uncompiled, everything needs it")
    thread = threading.Thread(target=setting.drain.wait)
    thread.start()
    deadline = time.monotonic() + 30
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)  # nobody is asked to let go of it
    try:
        setting.tail.append(b"entry")
        setting.drain.ring(plain=True)
        while not setting.drain.durable and time.monotonic() < deadline:
            pass
        durable = setting.drain.durable
    finally:
        sys.setswitchinterval(interval)
        setting.drain.ring(plain=False)
        thread.join(30)
    assert durable == 1


@pytest.mark.parametrize("what", ["beside", "fence", "not plain", "careful", "no file", "segment full", "file gone", "another file"])
def test_where_there_is_more_to_do_nothing_counts_as_written(setting, what):
    setting.tail.append(b"e" * 100)
    plain = True
    match what:
        case "beside":
            setting.drain.beside = True
        case "fence":
            setting.drain.look_at = time.monotonic()
        case "not plain":
            plain = False
        case "careful":
            setting.drain.careful = True
        case "no file":
            setting.place.fd = -1
        case "segment full":
            setting.place.limit = 107
        case "file gone":
            setting.path.unlink()
        case "another file":
            setting.path.unlink()
            setting.path.write_bytes(b"")
    setting.drain.ring(plain=plain)
    assert setting.drain.wait() == setting.drain_module.LOOK
    assert (setting.drain.durable, setting.place.offset, setting.place.index) == (0, 0, 0)
    assert setting.tail.used() == 108


@pytest.mark.parametrize("name", ["pwritev", "fdatasync"])
def test_who_puts_something_in_the_place_of_the_systems_calls_is_asked(setting, monkeypatch, name):
    monkeypatch.setattr(os, name, getattr(os, name).__call__)
    setting.tail.append(b"e" * 100)
    setting.drain.ring(plain=True)
    assert setting.drain.wait() == setting.drain_module.LOOK
    assert setting.tail.used() == 108


def test_the_sealer_is_told_in_time(setting):
    setting.drain.tell_at = 2
    setting.tail.append(b"e")
    assert setting.bring() == 0
    setting.tail.append(b"e")
    assert setting.bring() == setting.drain_module.TELL


def bells() -> set[int]:
    found = set()
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(name.readlink()) == "anon_inode:[eventfd]":
                found.add(int(name.name))
    return found


def test_who_rings_after_the_end_reaches_no_file_that_has_the_bells_number_now(audit, tmp_path):
    before = bells()
    setting = Setting(audit, tmp_path)
    (bell,) = bells() - before
    setting.drain.close()
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT, 0o600)
    if other != bell:
        os.dup2(other, bell)
        os.close(other)
    setting.drain.ring(plain=True)
    os.close(bell)
    assert (tmp_path / "other").read_bytes() == b""
    setting.tail.close(remove=False)
    os.close(setting.fd)


@pytest.mark.parametrize(("device", "why", "error"), [("/dev/full", "UNWRITTEN", errno.ENOSPC), ("/dev/zero", "UNSYNCED", errno.EINVAL)])
def test_what_the_system_says_no_to_is_said_and_counts_for_nothing(setting, device, why, error):
    os.close(setting.fd)
    setting.open(Path(device))
    setting.tail.append(b"e" * 100)
    setting.drain.ring(plain=True)
    assert setting.drain.wait() == getattr(setting.drain_module, why)
    assert setting.drain.error == error
    assert (setting.drain.durable, setting.place.offset, setting.tail.used()) == (0, 0, 108)


def test_what_was_written_in_part_is_written_again_to_the_same_place(setting):
    entries = [bytes([n]) * 3000 for n in range(4)]
    for entry in entries:
        setting.tail.append(entry)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        assert setting.bring() == setting.drain_module.UNWRITTEN
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert setting.drain.error == errno.EFBIG
    assert setting.path.stat().st_size == 5000
    assert (setting.drain.durable, setting.place.offset) == (0, 0)
    assert setting.bring() == 0
    assert setting.path.read_bytes() == b"".join(map(frame, entries))
