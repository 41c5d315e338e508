"""A test with an npm package is left out where no registry is within reach, and for no other reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary.testing import npm


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An npm that says this, and ends so."""

    def made(text: str, code: int) -> None:
        for name, script in (("npm", f"#!/bin/sh\necho '{text}' >&2\nexit {code}\n"), ("node", "#!/bin/sh\n")):
            (tmp_path / name).write_text(script)
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    return made


@pytest.mark.parametrize("text", ["npm error code ENOTFOUND", "npm error code ECONNREFUSED", "npm error code E503", "npm error code ENOTCACHED"])
def test_a_registry_that_cannot_be_reached_is_told_apart(says, tmp_path: Path, text: str) -> None:
    says(text, 1)
    with pytest.raises(npm.NoRegistry, match="E"):
        npm.install(tmp_path, "some-package@1.2.3")


@pytest.mark.parametrize("text", ["npm error code E404", "npm error code EACCES", "npm error code EINTEGRITY", ""])
def test_any_other_fault_is_a_failure(says, tmp_path: Path, text: str) -> None:
    says(text, 1)
    with pytest.raises(AssertionError):
        npm.install(tmp_path, "some-package@1.2.3")


@pytest.mark.parametrize("package", ["some-package", "some-package@3", "some-package@^1.2.3", "@scope/name@latest"])
def test_a_package_is_named_with_its_version(says, tmp_path: Path, package: str) -> None:
    says("", 0)
    assert npm.install(tmp_path, "@scope/name@1.2.3") == str(tmp_path / "node")
    with pytest.raises(AssertionError, match="exact version"):
        npm.install(tmp_path, package)


def test_who_lacks_node_is_told_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="setup"):
        npm.install(tmp_path, "some-package@1.2.3")
