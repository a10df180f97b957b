#!/usr/bin/env bash
# A vault on a cluster of Garage: three nodes in three zones on loopback, every object on all three. One node is killed while
# the vault is in use, and returns. Garage accepts the condition of a conditional create and ignores it: init has to find that out.
#
#   tests/garage.sh --build    builds Garage if it is not there, then runs
#   tests/garage.sh            runs if Garage is there; else says that it is skipped (or builds it, with COFFER_TESTS_REQUIRE_ALL)
#
# COFFER_GARAGE      the program `garage` to use, in place of one that is built here
# COFFER_GARAGE_DIR  where the one that is built is kept; default target/garage-VERSION
# COFFER             the program `coffer` to use; default: it is built
set -euo pipefail
cd "$(dirname "$0")/.."

version=2.5.0
kept=${COFFER_GARAGE_DIR:-${CARGO_TARGET_DIR:-target}/garage-$version}
garage=${COFFER_GARAGE:-$kept/bin/garage}
say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }
fail() { say "FAILED: $*"; exit 1; }

if [ ! -x "$garage" ]; then
  if [ "${1:-}" != --build ] && [ -z "${COFFER_TESTS_REQUIRE_ALL:-}" ]; then
    say "SKIPPED: there is no Garage at $garage; tests/garage.sh --build builds it, in some minutes"
    exit 0
  fi
  [ -z "${COFFER_GARAGE:-}" ] || fail "there is no program at $COFFER_GARAGE"
  say "building garage $version"
  # Quick to build matters more here than quick to run.
  CARGO_TARGET_DIR=$kept/build CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo install --quiet --locked --debug \
    --no-default-features --features bundled-libs,sqlite --root "$kept" "garage@$version"
  rm -rf "$kept/build"
fi
garage=$(realpath "$garage")

if [ -z "${COFFER:-}" ]; then
  cargo build --quiet --locked -p coffer-cli
  COFFER=${CARGO_TARGET_DIR:-target}/debug/coffer
fi
COFFER=$(realpath "$COFFER")

place=$(mktemp -d "${TMPDIR:-/tmp}/coffer-garage-XXXXXX")
declare -A pids=()
tidy_up() {
  local status=$?
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ "$status" = 0 ]; then rm -rf "$place"; else say "logs are left in $place"; fi
}
trap tidy_up EXIT
cd "$place"
# Nothing of the tester's own settings.
unset "${!AWS_@}" "${!GARAGE_@}"
for name in "${!COFFER_@}"; do unset "$name"; done
export HOME=$place AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY

# Below the ports that the system gives to clients.
base=$((20000 + RANDOM % 1000 * 10))
declare -A ids=()
rpc_secret=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
configure() {
  mkdir -p "node$1"
  cat >"node$1/garage.toml" <<CONFIG
metadata_dir = "$place/node$1/meta"
data_dir = "$place/node$1/data"
db_engine = "sqlite"
replication_factor = 3
consistency_mode = "consistent"
rpc_bind_addr = "127.0.0.1:$((base + $1))"
rpc_public_addr = "127.0.0.1:$((base + $1))"
rpc_secret = "$rpc_secret"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$((base + 3 + $1))"
[admin]
api_bind_addr = "127.0.0.1:$((base + 6 + $1))"
CONFIG
}
start() {
  RUST_LOG=garage=warn "$garage" -c "node$1/garage.toml" server >>"node$1/log" 2>&1 &
  pids[$1]=$!
}
on() { local node=$1; shift; RUST_LOG=error "$garage" -c "node$node/garage.toml" "$@"; }
# Waits until `node` reports the health `wanted`.
await() {
  local node=$1 wanted=$2
  for _ in $(seq 120); do
    if on "$node" health 2>/dev/null | grep -q "Cluster health:.*$wanted"; then return; fi
    sleep 0.5
  done
  on "$node" status || true
  fail "node $node does not see the cluster $wanted"
}

say "starting three nodes"
for node in 1 2 3; do configure $node; start $node; done
for node in 1 2 3; do
  for _ in $(seq 120); do
    if on $node status >/dev/null 2>&1; then ids[$node]=$(on $node node id -q 2>/dev/null); break; fi
    kill -0 "${pids[$node]}" 2>/dev/null || { cat "node$node/log"; fail "node $node did not start"; }
    sleep 0.5
  done
  [ -n "${ids[$node]:-}" ] || { cat "node$node/log"; fail "node $node does not answer"; }
done
for node in 2 3; do on 1 node connect "${ids[$node]}" >/dev/null; done
for node in 1 2 3; do on 1 layout assign -z "zone$node" -c 1G "${ids[$node]%%@*}" >/dev/null; done
on 1 layout apply --version 1 >/dev/null
await 1 HEALTHY
AWS_ACCESS_KEY_ID=GK$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
AWS_SECRET_ACCESS_KEY=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
on 1 key import --yes -n coffer "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >/dev/null
on 1 bucket create nightly >/dev/null
on 1 bucket allow --read --write nightly --key coffer >/dev/null

coffer() {
  "$COFFER" --vault "s3:http://127.0.0.1:$((base + 4))/nightly/vault" --region garage --key-file key --cache-dir "${cache:-cache}" "$@"
}
# Restores with no memory of the vault, and compares.
check_restore() {
  rm -rf restored fresh
  cache=fresh coffer restore latest --target restored --quiet
  diff -r --no-dereference src restored/src || fail "what was restored differs"
  (cd src && find . -printf '%p %m %y %T@\n' | sort) >expected.txt
  (cd restored/src && find . -printf '%p %m %y %T@\n' | sort) >found.txt
  diff expected.txt found.txt || fail "modes or times differ"
}

say "a source"
mkdir -p src/many
for number in $(seq 300); do head -c $((number * 37)) /dev/urandom >"src/many/$number"; done
head -c 40000000 /dev/urandom >src/large
ln -s large src/link

"$COFFER" keys new-file key >/dev/null
say "init finds out that Garage ignores the condition, and wants to be told that one machine alone writes"
if coffer init --single-slot 2>init.txt; then cat init.txt; fail "init trusts a condition that Garage ignores"; fi
grep -q -- '--single-writer' init.txt || { cat init.txt; fail "init failed for another reason"; }
coffer init --single-slot --single-writer 2>init.txt || { cat init.txt; fail "init"; }
cat init.txt
grep -q 'only one machine may write' init.txt || fail "init does not say what follows from it"

say "backup, verify, restore with all nodes"
coffer backup src --quiet
coffer verify --quiet
check_restore

say "node 3 is killed"
kill -9 "${pids[3]}"
wait "${pids[3]}" 2>/dev/null || true
unset 'pids[3]'
head -c 10000000 /dev/urandom >src/more
echo changed >src/many/7
coffer backup src --quiet
await 1 DEGRADED
coffer verify --quiet
coffer verify --deep --quiet
check_restore

say "node 3 returns"
start 3
await 1 HEALTHY
echo "changed again" >src/many/8
coffer backup src --quiet
coffer verify --deep --quiet
check_restore
coffer snapshots --json | python3 -c 'import json, sys; sys.exit(len(json.load(sys.stdin)["snapshots"]) != 3)' ||
  { coffer snapshots; fail "there are not three snapshots"; }

say "another node is killed: what was written while node 3 was away has reached it, or is found where it is"
kill -9 "${pids[2]}"
wait "${pids[2]}" 2>/dev/null || true
unset 'pids[2]'
coffer verify --deep --quiet
check_restore
say "all is well"
