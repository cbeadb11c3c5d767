#!/usr/bin/env bash
# `make redrive`, in one of the containers.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_engine
[[ -n $(containers) ]] || fail "there are no containers. Start the stack: make compose-up"
compose exec -T notification-worker /notification-worker redrive "$@"
