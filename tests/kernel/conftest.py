"""The kernel at both speeds: every test here runs on the sources as they stand, and on the extensions if they are built."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import ostiary.kernel

NAMES = ("detect", "values", "rows", "copies", "entries", "literals")
COMPILED = ("detect", "rows", "copies", "entries", "literals")
FOLDER = Path(ostiary.kernel.__file__).parent


def load_plain() -> SimpleNamespace:
    """The uncompiled twins, beside whatever the rest of the program imported."""
    loaded: dict[str, ModuleType] = {}
    before = {name: sys.modules.pop(f"ostiary.kernel.{name}", None) for name in NAMES}
    try:
        for name in NAMES:
            full = f"ostiary.kernel.{name}"
            path = str(FOLDER / f"{name}.py")
            spec = importlib.util.spec_from_file_location(full, path, loader=SourceFileLoader(full, path))
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[full] = module
            spec.loader.exec_module(module)
            loaded[name] = module
    finally:
        for name, module_before in before.items():
            sys.modules.pop(f"ostiary.kernel.{name}", None)
            if module_before is not None:
                sys.modules[f"ostiary.kernel.{name}"] = module_before
    return SimpleNamespace(**loaded)


def load_built() -> SimpleNamespace:
    """The extensions, or a skip that says why."""
    modules = {name: importlib.import_module(f"ostiary.kernel.{name}") for name in NAMES}
    if not all(str(modules[name].__file__).endswith((".so", ".pyd")) for name in COMPILED):
        pytest.skip("the kernel is not compiled in this tree: python setup.py build_ext --inplace")
    for name in COMPILED:
        built = Path(str(modules[name].__file__))
        if built.stat().st_mtime < max(built.with_name(name + end).stat().st_mtime for end in (".py", ".pxd")):
            pytest.fail(f"{built.name} is older than its source: python setup.py build_ext --inplace")
    return SimpleNamespace(**modules)


@pytest.fixture(scope="session")
def plain() -> SimpleNamespace:
    return load_plain()


@pytest.fixture(scope="session")
def built() -> SimpleNamespace:
    return load_built()


@pytest.fixture(scope="session", params=["plain", "built"])
def kernel(request: pytest.FixtureRequest) -> SimpleNamespace:
    return load_plain() if request.param == "plain" else load_built()
