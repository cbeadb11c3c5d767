#!/usr/bin/env bash
# `make logs [NAME=…]`: follows all logs, or one.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
shopt -s nullglob
if [[ -n ${1:-} ]]; then
  [[ -e $RUN/logs/$1.log ]] || fail "there is no $RUN/logs/$1.log; NAME is one of: ${ALL[*]}"
  logs=("$RUN/logs/$1.log")
else
  logs=("$RUN"/logs/*.log)
fi
((${#logs[@]} > 0)) || fail "there are no logs yet. Start the stack: make up"
exec tail -n 20 -F "${logs[@]}"
