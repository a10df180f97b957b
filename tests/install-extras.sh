#!/usr/bin/env bash
# Installs what some tests need beyond Rust: the libraries of the second reader (into .venv), cargo-fuzz and cargo-deny.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x .venv/bin/python ]; then
  python3 -m venv .venv
fi
.venv/bin/python -m pip install --quiet --requirement tests/reader/requirements.txt
command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
