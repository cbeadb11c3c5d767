#!/usr/bin/env bash
# `make status`: one table of what runs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"

[[ -r $RUN/settings.bash ]] && load_settings
if ! have s6-svscanctl || ! supervisor_runs; then
  say "Nothing runs. Start it: make up"
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
print_row NAME PID STATE UPTIME READY RSS ADDRESS
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
  rss=$(awk '/^VmRSS/ {printf "%.1f MiB", $2 / 1024}' "/proc/$pid/status" 2>/dev/null || printf -- -)
  print_row "$name" "$pid" up "$(age "$(stat_of "$name" updownfor)")" "$ready" "$rss" "$address"
done
