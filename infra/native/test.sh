#!/usr/bin/env bash
# `make test`: every test of the workspace. The tests start the servers they need themselves, on free ports, in temporary folders.
# `cargo test -p standalone` alone needs none: the platform on files.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
"$NATIVE/install.sh" test
cd "$ROOT"
umask 022
ulimit -n "$(ulimit -Hn)"
SLUICE_MONGOD=$(find_mongod)
export SLUICE_MONGOD
log=$(mktemp)
trap 'rm -f "$log"' EXIT
begin=$(now_ms)
status=0
cargo test --workspace --features standalone/servers --locked --no-fail-fast 2>&1 | tee "$log" || status=$?

# Each test that failed or was ignored, under the binary it belongs to; then one line of counts. A test that is ignored has not run.
awk -v took="$(since "$begin")" '
  /^ +(Running|Doc-tests) / { binary = $0; sub(/^ +/, "", binary); binaries++ }
  /^test .* \.\.\. (FAILED|ignored)/ { if (named != binary) print "\n" binary; named = binary; print "  " $0 }
  /^test result:/ { passed += $4; failed += $6; ignored += $8; reported++ }
  END {
    silent = binaries - reported
    printf "\nTests: %d run, %d passed, %d failed, %d ignored, in %d binaries, %s.\n", passed + failed, passed, failed, ignored, binaries, took
    if (silent > 0) printf "%d binaries ended without a result.\n", silent
    exit (failed + ignored + silent > 0 || passed == 0)
  }' "$log" || status=1
((status == 0)) || fail "make test failed"
