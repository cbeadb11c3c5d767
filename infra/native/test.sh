#!/usr/bin/env bash
# `make test`: every test of the workspace. The tests start the servers they need themselves, on free ports, in temporary folders.
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
status=0
cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log" || status=$?
awk '/^test result:/ {passed += $4; failed += $6; ignored += $8}
  END {printf "%d tests passed, %d failed, %d ignored.\n", passed, failed, ignored}' "$log"
exit "$status"
