#!/usr/bin/env bash
# Bring this machine to where the Makefile's targets run: Debian packages, a virtual environment from the lock file, the kernel.
#
#   scripts/setup.sh [bench] [conformance] [fsck] [fuzz]
#
# As root it installs the Debian packages that are missing; otherwise it names them. Without a compiler the kernel runs
# uncompiled. It does nothing where nothing is missing, so every target may begin with it.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

wants=" $* "
missing=()   # packages without which nothing runs
useful=()    # packages without which something runs slower

# --- which Python ------------------------------------------------------------------------------------------------------
usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
# The distribution's own first: it is built with its profile, while a Python built by hand mostly is not, and then takes 1.6 times the time.
find_python() {
    local name
    for name in "${PYTHON:-}" /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
        if [ -n "$name" ] && usable "$name"; then command -v "$name"; return 0; fi
    done
    return 1
}
python=$(find_python || true)
if [ -z "$python" ]; then
    missing+=(python3 python3-venv)
    useful+=(python3-dev)
else
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3-venv)
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
        || useful+=(python3-dev)
fi

# --- which programs ----------------------------------------------------------------------------------------------------
command -v gcc >/dev/null || useful+=(gcc libc6-dev)
[ -n "${OSTIARY_TEST_PG_BIN:-}" ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
    || missing+=(postgresql)
for pair in sshd:openssh-server ssh:openssh-client sshpass:sshpass rsync:rsync git:git chromium:chromium xmlsec1:xmlsec1 xauth:xauth xdpyinfo:x11-utils \
    node:nodejs npm:npm curl:curl; do
    command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}")
done
case $wants in *" bench "*) [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || missing+=(pgbouncer)
    for pair in nginx:nginx-light wrk:wrk h2load:nghttp2-client; do
        command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}")
    done ;;
esac
case $wants in *" conformance "*)
    command -v dpkg-source >/dev/null || missing+=(dpkg-dev)
    for tool in make gcc bison flex perl; do command -v "$tool" >/dev/null || missing+=("$tool"); done ;;
esac

# `postgresql` stands for version 15 where Debian has it: that is what the tests are made against.
server_package() {
    if apt-cache show postgresql-15 >/dev/null 2>&1; then echo postgresql-15 postgresql-client-15; else echo postgresql postgresql-client; fi
}

if [ ${#missing[@]} -gt 0 ] || [ ${#useful[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        say "installing Debian packages: ${missing[*]-} ${useful[*]-}"
        apt-get -qq update >/dev/null
        packages=()
        for name in ${missing[@]+"${missing[@]}"} ${useful[@]+"${useful[@]}"}; do
            # shellcheck disable=SC2207
            if [ "$name" = postgresql ]; then packages+=($(server_package)); else packages+=("$name"); fi
        done
        apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
        python=$(find_python || true)
        [ -n "$python" ] || { say "Debian's python3 is older than 3.11: install a newer Python, or name one in PYTHON"; exit 1; }
    else
        if [ ${#useful[@]} -gt 0 ]; then say "not installed, the kernel will run uncompiled (slower): ${useful[*]}"; fi
        if [ ${#missing[@]} -gt 0 ]; then
            say "missing Debian packages: ${missing[*]/#postgresql/postgresql-15}"
            say "install them with: apt-get install ${missing[*]/#postgresql/postgresql-15}"
            exit 1
        fi
    fi
fi

# --- the virtual environment -------------------------------------------------------------------------------------------
stamp_of() { { "$@"; } | sha256sum | cut -d' ' -f1; }
want=$(stamp_of cat requirements.lock pyproject.toml)
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c pass 2>/dev/null; then
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
if [ "$(cat .venv/ostiary-stamp 2>/dev/null || true)" != "$want" ]; then
    say "installing what requirements.lock names"
    .venv/bin/python -m pip install -q --require-hashes -r requirements.lock
    scripts/build-kernel.sh
    # The `ostiary` command, running from this tree.
    OSTIARY_PURE=1 .venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
    echo "$want" > .venv/ostiary-stamp
else
    scripts/build-kernel.sh
fi
# Tessera's fsck: an independent reading of the log, in Go. Debian's Go is too old for it, so it is no part of `make test`.
case $wants in *" fsck "*)
    tessera=github.com/transparency-dev/tessera@v1.0.4
    command -v go >/dev/null || { say "missing: Go 1.24 or newer, to build Tessera's fsck"; exit 1; }
    if [ ! -x .venv/bin/tessera-fsck ]; then
        say "building $tessera/cmd/fsck"
        GOBIN="$PWD/.venv/gobin" go install "${tessera%@*}/cmd/fsck@${tessera#*@}"
        mv .venv/gobin/fsck .venv/bin/tessera-fsck
    fi
    # `go mod download` keeps the module's own test log, which our verifier reads.
    [ -d .venv/tessera ] || ln -s "$(go mod download -json "$tessera" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')" .venv/tessera ;;
esac
case $wants in *" fuzz "*) .venv/bin/python -c 'import atheris' 2>/dev/null || .venv/bin/python -m pip install -q 'atheris>=3' ;; esac
