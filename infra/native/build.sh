#!/usr/bin/env bash
# `make build`: the release binaries that `make up` runs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
"$NATIVE/install.sh" build
mkdir -p "$RUN/logs"
log=$RUN/logs/build.log
begin=$(now_ms)
say "Building (the first time takes minutes; log: $log)"

compile() {
  cd "$ROOT"
  umask 022
  # The gateway is built separately, so that no dependency gets features that only the workers ask for.
  cargo build --release --locked -p gateway &&
    cargo build --release --locked -p user-worker -p task-worker -p notification-worker
}

(compile) >"$log" 2>&1 || {
  # The compiler's own messages, which name the place.
  grep -A 12 -m 3 -E '^error' "$log" >&2 || tail -n 5 "$log" >&2
  fail "the build failed (log: $log)"
}
step "$begin" built "gateway and workers"
