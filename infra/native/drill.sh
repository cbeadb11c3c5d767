#!/usr/bin/env bash
# `make drill`: kill -9 of each running process, one after the other. Ours must be ready again within a second, the servers as soon as
# they can, and the demo must pass after each kill.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"
supervisor_runs || fail "nothing runs. Start it: make up"
load_settings
log=$RUN/logs/drill.log

demo_passes() { "$NATIVE/demo.sh" >"$log" 2>&1; }
is_back() { [[ $(<"$RUN/pids/$name.pid") != "$killed" ]] && is_ready "$name"; }

late=()
for name in $(managed); do
  killed=$(<"$RUN/pids/$name.pid")
  begin=$(now_ms)
  kill -KILL "$killed"
  until is_back; do
    (($(now_ms) < begin + 60000)) || fail "$name is not ready 60 s after kill -9: $(cause_of "$name") (log: $RUN/logs/$name.log)"
    sleep 0.02
  done
  took=$(($(now_ms) - begin))
  # After a server was away, workers and gateways also need a moment.
  patience=60
  if [[ " ${SERVERS[*]} " != *" $name "* ]]; then
    patience=0
    ((took <= 1000)) || late+=("$name")
  fi
  wait_until "$patience" demo_passes || fail "after kill -9 of $name the demo failed: $(tail -1 "$log") (log: $log)"
  printf '  %-24s ready after %5d ms, the demo passes\n' "$name" "$took"
done
((${#late[@]} == 0)) || fail "not ready within a second: ${late[*]}"
say "Every process came back."
