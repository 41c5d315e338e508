#!/usr/bin/env bash
# Make requirements.lock anew from pyproject.toml: every version pinned with its hashes, nothing of this machine in it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q uv
"$work/venv/bin/uv" pip compile -q pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header "$@" -o requirements.lock
