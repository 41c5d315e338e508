#!/usr/bin/env bash
# Everything that must hold, quickest first; pytest's closing line is the last. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/lint.sh
exec .venv/bin/python -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadgroup "$@"
