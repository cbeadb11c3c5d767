#!/usr/bin/env bash
# `make compose-logs [NAME=…]`: follows all logs, or those of one service.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_engine
[[ -n $(containers) ]] || fail "there are no containers. Start the stack: make compose-up"
compose logs --follow --tail 20 "$@"
