#!/usr/bin/env bash
# `make clean`: make down, then all data, logs and secrets of the stack.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$NATIVE/down.sh"
rm -rf "$RUN"
say "Deleted $RUN."
