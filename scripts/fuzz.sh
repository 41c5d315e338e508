#!/usr/bin/env bash
# Run every atheris target of fuzz/ for so many seconds: scripts/fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
found=0
for target in fuzz/fuzz_*.py; do
    [ -e "$target" ] || continue
    found=1
    corpus=fuzz/corpus/$(basename "$target" .py)
    mkdir -p "$corpus"
    echo "== $target"
    PYTHONPATH=. .venv/bin/python "$target" -max_total_time="$1" -rss_limit_mb=2048 "$corpus"
done
[ "$found" = 1 ] || { echo "no fuzz target in fuzz/" >&2; exit 1; }
