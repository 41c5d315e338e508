#!/usr/bin/env bash
# Build the kernel and the line so that every access of memory is checked, and run their tests and the fuzz targets: scripts/asan.sh SECONDS
#
# The sources are copied, so the build beside them stays as it is. PYTHONMALLOC=malloc lets the checker see Python's own objects.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=$root/.venv/bin/python
library=$(gcc -print-file-name=libasan.so)
[ -e "$library" ] || { echo "gcc has no libasan.so: install libasan (Debian: gcc brings it)" >&2; exit 1; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git ls-files -z -- ostiary tests fuzz setup.py pyproject.toml README.md | xargs -0 cp --parents -t "$place"
cd "$place"
echo "== building with -fsanitize=address"
OSTIARY_REQUIRE_COMPILED=1 OSTIARY_CFLAGS="-O1 -g -fsanitize=address -fno-omit-frame-pointer" LDFLAGS="-fsanitize=address" \
    "$python" setup.py -q build_ext --inplace -j "$(nproc)" >build.log 2>&1 || { tail -20 build.log >&2; exit 1; }
checked() {
    LD_PRELOAD=$library ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:halt_on_error=1:allocator_may_return_null=1 PYTHONMALLOC=malloc \
        PYTHONPATH=$place OSTIARY_REQUIRE_COMPILED=1 "$python" "$@"
}
checked -c 'from ostiary.kernel import frames; assert frames.__file__.endswith(".so") and frames.__file__.startswith("'"$place"'"), frames.__file__'
echo "== tests"
checked -m pytest -q -p no:cacheprovider tests/kernel tests/postgres_wire/test_wire_frames.py tests/postgres_wire/test_wire_codec.py \
    tests/audit_writer/test_entries_canonical.py tests/audit_writer/test_tail_ring.py tests/audit_writer/test_tree_and_notes.py \
    tests/masking/test_masking_plan.py tests/http/test_http_masking.py tests/http/test_http_reading.py tests/policy/test_policy_decide.py \
    tests/recording tests/session --ignore=tests/recording/test_recording_limits.py # it starts a gateway, in which the checker is not loaded
for script in fuzz/fuzz_*.py; do
    echo "== $script"
    checked fuzz/mutating.py "$script" "$1" "${2:-1}" "$root/fuzz/corpus/$(basename "$script" .py)"
done
