#!/usr/bin/env bash
# ruff, mypy strict, the contracts of imports. The house numbers are tests: tests/house.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/lint-imports --no-cache
