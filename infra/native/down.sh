#!/usr/bin/env bash
# `make down`: stops everything, edge first and servers last, each with its time to drain; then proves that nothing is left.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"

standalone=$(standalone_setting PID)
if [[ -n $standalone ]]; then
  begin=$(now_ms)
  kill -TERM "$standalone"
  # The process itself, not its note, which goes a little earlier. A zombie has no `exe` either.
  gone() { [[ ! -e /proc/$standalone/exe ]]; }
  # Longer than any drain.
  wait_until 40 gone || fail "make run (process $standalone) did not stop when asked; kill -9 $standalone ends it"
  say "make run is stopped ($(since "$begin"))."
fi
[[ -d $SERVICES ]] || {
  [[ -n $standalone ]] || say "Nothing runs."
  exit 0
}
if [[ -z ${SLUICE_LOCKED:-} ]]; then
  exec 8>"$RUN/lock"
  flock -n 8 || fail "another make up or make down is running in $RUN"
fi
[[ -r $RUN/settings.bash ]] && load_settings
begin=$(now_ms)

if have s6-svc; then
  # nginx finishes what it is answering, two seconds at most; streams are cut, their clients resume.
  if is_up nginx; then
    touch "$SERVICES/nginx/down"
    s6-svc -O -q "$SERVICES/nginx"
    s6-svwait -D -t 2000 "$SERVICES/nginx" 2>/dev/null || true
  fi
  stop nginx
  stop "${GATEWAYS[@]}"
  stop "${WORKERS[@]}"
  stop "${SERVERS[@]}"
  for name in "${ALL[@]}"; do
    if supervised "$name"; then s6-svc -x "$SERVICES/$name"; fi
    # Told one by one, because the scanner that would tell them may have been killed.
    if supervised "$name/log"; then s6-svc -xd "$SERVICES/$name/log"; fi
  done
  if supervisor_runs; then s6-svscanctl -t "$SERVICES"; fi
fi
if have epmd; then ERL_EPMD_PORT=$EPMD_PORT epmd -kill >/dev/null 2>&1 || true; fi

none_left() { [[ -z $(ours) ]]; }
if ! wait_until 10 none_left; then
  mapfile -t remains < <(ours)
  warn "did not stop when asked, killed: $(ps -o pid=,comm= -p "$(IFS=,; printf '%s' "${remains[*]}")" | tr -s ' \n' ' ')"
  kill -KILL "${remains[@]}" 2>/dev/null || true
  wait_until 5 none_left || fail "still running: $(ours | tr '\n' ' ')"
fi
rm -rf "$SERVICES" "$RUN/pids"
say "Everything is stopped ($(since "$begin")). Data is kept in $RUN; make clean deletes it."
