#!/usr/bin/env bash
# `make compose-down`: stops and removes the containers, edge first and servers last, each with its time to drain. Data and keys stay.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_engine
one_at_a_time
begin=$(now_ms)
log=$RUN/down.log
if [[ -z $(containers) ]]; then
  say "Nothing runs."
else
  compose down --remove-orphans >"$log" 2>&1 || fail "$(tail -1 "$log") (log: $log)"
  say "Everything is stopped ($(since "$begin")). Data is kept in volumes; make compose-clean deletes it."
fi
# Forgets the settings, including given servers.
rm -f "$CHOSEN" "$RUN"/secrets/{redis_url,amqp_url,mongodb_uri}
