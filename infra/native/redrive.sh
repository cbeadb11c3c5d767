#!/usr/bin/env bash
# `make redrive ARGS="--dry-run"`: brings the dead letters of whatever runs back to the queues they came from.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [[ -d $RUN/pids ]]; then
  AMQP_URL=$(native_setting AMQP_URL) exec "$RUN/bin/notification-worker" redrive "$@"
fi
if [[ -n $(compose_setting EDGE_ADDRESS) ]]; then
  exec "$ROOT/infra/docker/redrive.sh" "$@"
fi
fail "nothing runs that has dead letters: make up or make compose-up. For make run, stop it first, then: target/quick/standalone redrive"
