#!/usr/bin/env bash
# Installs what some tests need beyond Rust: the libraries of the second reader and the clients of object storage and of key
# services that IBM, AWS and others publish (into .venv), cargo-fuzz and cargo-deny, and, where there is apt-get and this is root, the programs that
# archives, attributes, terminals, PKCS#11 tokens and the guard are tested with.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x .venv/bin/python ]; then
  python3 -m venv .venv
fi
.venv/bin/python -m pip install --quiet --requirement tests/reader/requirements.txt --requirement tests/foreign/requirements.txt
command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny

packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }
need unzip unzip
need setfacl acl
need script bsdutils
need setpriv util-linux
need valgrind valgrind
need softhsm2-util softhsm2
if [ "${#packages[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" >/dev/null
  else
    echo "not installed, so some tests are skipped: ${packages[*]}"
  fi
fi
