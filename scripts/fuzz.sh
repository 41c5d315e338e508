#!/usr/bin/env bash
# Run every target of every script of fuzz/ for so many seconds: scripts/fuzz.sh SECONDS
#
# The sources are copied without compiled modules, which the fuzzer could not see into. What it finds stays in fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cp -r ostiary "$place/ostiary"
find "$place" -name '*.so' -delete
mkdir -p fuzz/found
status=0
for script in fuzz/fuzz_*.py; do
    for target in $(PYTHONPATH="$place" .venv/bin/python "$script" --list 2>/dev/null); do
        corpus=fuzz/corpus/$(basename "$script" .py)/$target
        mkdir -p "$corpus"
        echo "== $script $target"
        (cd "$place" && PYTHONPATH="$place" "$root/.venv/bin/python" "$root/$script" "$target" -max_total_time="$1" -rss_limit_mb=2048 \
            -timeout=20 -print_final_stats=1 -verbosity=0 -artifact_prefix="$root/fuzz/found/$target-" "$root/$corpus") || status=1
    done
done
exit "$status"
