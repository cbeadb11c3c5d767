#!/usr/bin/env bash
# .run/bin/restart NAME: restarts one process gracefully. A gateway leaves nginx first; a worker leaves the gateways by itself,
# because its readiness turns 503 before it drains. Comes back when the new process is ready.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"

name=${1:-}
[[ -n $name && " ${ALL[*]} " == *" $name "* ]] || fail "restart what? NAME is one of: ${ALL[*]}"
supervisor_runs || fail "nothing runs. Start it: make up"
load_settings
external "$name" && fail "$name is not ours: ${URL_VARIABLE[$name]} was given"
STARTED=$(now_ms)

nginx_workers() { pgrep -P "$(pid_of nginx)" -f 'nginx: worker process$' | sort || true; }

# New requests follow the new upstream.conf once new worker processes have taken over.
reload_nginx() {
  local before
  before=$(nginx_workers)
  s6-svc -h "$SERVICES/nginx"
  taken_over() {
    local now
    now=$(nginx_workers)
    [[ -n $now ]] && [[ -z $(comm -12 <(printf '%s\n' "$before") <(printf '%s\n' "$now")) ]]
  }
  wait_until 10 taken_over || fail "nginx did not reload: $(cause_of nginx) (log: $RUN/logs/nginx.log)"
}

no_connections() { [[ -z $(ss -Htn state established "sport = :${PORT[$name]}") ]]; }

back_into_nginx() {
  write_nginx ""
  reload_nginx
}

case $name in
  nginx)
    # A new configuration and new worker processes; the listening socket never closes, so no client is refused.
    reload_nginx
    step "$STARTED" nginx "reloaded, pid $(pid_of nginx)"
    exit 0
    ;;
  gateway-*)
    if is_up nginx; then
      trap back_into_nginx EXIT
      write_nginx "$name"
      reload_nginx
      # What is in flight ends here; long streams are left to the gateway's own drain.
      wait_until 5 no_connections || true
    fi
    ;;
esac

if is_up "$name"; then
  s6-svc -T 60000 -wr -r "$SERVICES/$name" || fail "$name did not stop within 60 s (log: $RUN/logs/$name.log)"
fi
start "$name"
wait_ready 60 "$name"
