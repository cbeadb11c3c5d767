#!/usr/bin/env bash
# `make status`: one table of what runs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"

[[ -r $RUN/settings.bash ]] && load_settings
stack=false
if have s6-svscanctl && supervisor_runs; then stack=true; fi
standalone=$(standalone_setting PID)
if ! $stack && [[ -z $standalone ]]; then
  say "Nothing runs. Start it: make run, or make up"
  exit 0
fi

age() {
  local seconds=$1
  if ((seconds < 60)); then
    printf '%ds' "$seconds"
  elif ((seconds < 3600)); then
    printf '%dm%02ds' $((seconds / 60)) $((seconds % 60))
  else
    printf '%dh%02dm' $((seconds / 3600)) $((seconds % 3600 / 60))
  fi
}

row='%-23s %8s  %-9s %8s  %-6s %9s  %s\n'
# shellcheck disable=SC2059 # the format is the variable, on purpose
print_row() { printf "$row" "$@"; }
rss_of() { awk '/^VmRSS/ {printf "%.1f MiB", $2 / 1024}' "/proc/$1/status" 2>/dev/null || printf -- -; }
print_row NAME PID STATE UPTIME READY RSS ADDRESS
if [[ -n $standalone ]]; then
  ready=no
  if curl --silent --fail --output /dev/null --max-time 3 "$(standalone_setting ADMIN_URL)/readyz"; then ready=yes; fi
  edge=$(standalone_setting EDGE_URL)
  print_row standalone "$standalone" up "$(age "$(ps -o etimes= -p "$standalone" | tr -d ' ')")" "$ready" "$(rss_of "$standalone")" "${edge#http://}"
fi
$stack || exit 0
for name in "${ALL[@]}"; do
  if external "$name"; then
    # shellcheck disable=SC2153 # GIVEN is settings.sh's
    variable=${URL_VARIABLE[$name]} given=${GIVEN[$name]#*://}
    given=${given##*@}
    print_row "$name" - external - - - "${given%%[/?]*} ($variable)"
    continue
  fi
  address=127.0.0.1:${PORT[$name]}
  if ! is_up "$name"; then
    print_row "$name" - down - no - "$address"
    continue
  fi
  pid=$(pid_of "$name")
  ready=no
  if is_ready "$name"; then ready=yes; fi
  print_row "$name" "$pid" up "$(age "$(stat_of "$name" updownfor)")" "$ready" "$(rss_of "$pid")" "$address"
done
