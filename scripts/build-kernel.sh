#!/usr/bin/env bash
# Compile the kernel and the line in place if there is a compiler and something changed (unchanged modules are not compiled again); without one it runs uncompiled, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f setup.py ] || exit 0
python=.venv/bin/python
stamp=.venv/kernel-stamp
want=$({ cat setup.py; find ostiary -name '*.pxd' -o -name '*.py' | sort | xargs cat; "$python" --version; } | sha256sum | cut -d' ' -f1)
[ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ] || exit 0
find ostiary -name '*.so' -delete # never one that is older than its source
jobs=$(nproc 2>/dev/null || echo 1)
if "$python" setup.py -q build_ext --inplace -j "$((jobs < 4 ? jobs : 4))" >.venv/kernel-build.log 2>&1 && ls ostiary/kernel/*.so >/dev/null 2>&1; then
    echo "$want" > "$stamp"
else
    echo "the kernel could not be compiled and runs uncompiled (slower); why: .venv/kernel-build.log" >&2
fi
