#!/usr/bin/env bash
# Runs every fuzz target for so many seconds (60), two at a time, from the seeds that the test vectors give.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
# Sanitizers are a nightly feature; where there is no nightly toolchain, the stable one is told to allow it.
if cargo +nightly --version >/dev/null 2>&1; then
  toolchain=+nightly
else
  toolchain=
  export RUSTC_BOOTSTRAP=1
fi
COFFER_WRITE_CORPUS=1 cargo test --quiet --package coffer-format --package coffer-pipeline --test vectors >/dev/null
cargo $toolchain fuzz build
targets=$(cargo $toolchain fuzz list)
run() {
  local target=$1 log
  log=$(mktemp)
  if cargo $toolchain fuzz run "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=60 >"$log" 2>&1; then
    printf '%-16s %s\n' "$target" "$(grep -E '^Done|DONE' "$log" | tail -n 1)"
  else
    tail -n 60 "$log"
    printf '%s failed\n' "$target"
    return 1
  fi
}
export -f run
export toolchain seconds
printf '%s\n' $targets | xargs -P 2 -I{} bash -c 'run {}'
