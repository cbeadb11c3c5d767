#!/usr/bin/env bash
# .run/bin/restart NAME: restarts one process gracefully, and returns when the new one is ready. Gateways and workers drain by
# themselves on SIGTERM: whoever sends them requests notices, and uses the other one.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"

name=${1:-}
[[ -n $name && " ${ALL[*]} " == *" $name "* ]] || fail "restart what? NAME is one of: ${ALL[*]}"
supervisor_runs || fail "nothing runs. Start it: make up"
if [[ -z ${SLUICE_LOCKED:-} ]]; then
  exec 8>"$RUN/lock"
  flock -sn 8 || fail "make up or make down is running in $RUN"
fi
load_settings
external "$name" && fail "$name is not ours: ${URL_VARIABLE[$name]} was given"
STARTED=$(now_ms)

# This polls, because s6's own -wr was seen to miss the event on a busy machine.
has_new_pid() {
  local now
  now=$(pid_of "$name")
  [[ $now =~ ^[0-9]+$ && $now != "$before" ]]
}

nginx_workers() { pgrep -P "$(pid_of nginx)" -f 'nginx: worker process$' | sort || true; }
has_new_workers() {
  local now
  now=$(nginx_workers)
  [[ -n $now ]] && [[ -z $(comm -12 <(printf '%s\n' "$before") <(printf '%s\n' "$now")) ]]
}

if [[ $name == nginx ]] && is_up nginx; then
  # A new configuration and new worker processes; the listening socket never closes, so no client is refused.
  before=$(nginx_workers)
  s6-svc -h "$SERVICES/nginx"
  wait_until 10 has_new_workers || fail "nginx did not reload: $(cause_of nginx) (log: $RUN/logs/nginx.log)"
  step "$STARTED" nginx "reloaded, pid $(pid_of nginx)"
  exit 0
fi

if is_up "$name"; then
  before=$(pid_of "$name")
  s6-svc -r "$SERVICES/$name"
  wait_until 60 has_new_pid || fail "$name did not end within 60 s (log: $RUN/logs/$name.log)"
fi
start "$name"
wait_ready 60 "$name"
