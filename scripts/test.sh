#!/usr/bin/env bash
# Everything that must hold, quickest first; pytest's closing line is the last. Arguments go to pytest.
#
# The tests start servers and clients by the hundred, and a machine that does too much at once can be late. So the few that failed are
# run once more, alone and one after another, and said to have been: what fails again has failed, and more than a few are not tried again.
set -euo pipefail
cd "$(dirname "$0")/.."
few=5
scripts/lint.sh
code=0
.venv/bin/python -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadfile --durations=25 "$@" || code=$?
[ "$code" = 1 ] || exit "$code"
failed=$(.venv/bin/python -c 'import json; print(len(json.load(open(".pytest_cache/v/cache/lastfailed"))))')
[ "$failed" -le "$few" ] || exit "$code"
echo "$failed failed with others running beside; what follows are these alone. A test that needs this has a fault: mend it." >&2
exec .venv/bin/python -m pytest -n 0 --last-failed -v "$@"
