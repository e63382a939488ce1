#!/usr/bin/env bash
# Makes .venv with everything in it, so that .venv/bin/vigil runs. Safe to run again: does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
    for name in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
        if [ -n "$name" ] && command -v "$name" >/dev/null &&
            "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "setup: Python 3.11 or newer with venv is needed; install it or say PYTHON=/path/to/python3" >&2
    exit 2
}

stamp=.venv/.setup-$(cat pyproject.toml deploy/setup.sh deploy/packages.txt | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
    [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
    echo "setup: installing Python packages into .venv (a few minutes the first time: PyTorch is large)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"

    # Debian packages serve tests and capture cards; without root they are named, and the tests that want them skip.
    missing=$(grep -v '^#' deploy/packages.txt | while read -r name; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || echo "$name"
    done)
    if [ -n "$missing" ]; then
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            echo "setup: installing Debian packages:" $missing
            export DEBIAN_FRONTEND=noninteractive
            (apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing) >/dev/null 2>&1 ||
                echo "setup: some Debian packages could not be installed; the tests that need them will skip" >&2
        else
            echo "setup: for RTSP and SRT tests also install:" $missing >&2
        fi
    fi
    rm -f .venv/.setup-*
    touch "$stamp"
fi
