#!/usr/bin/env bash
# `make clean`: make down, then all data, logs and secrets of the stack.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$NATIVE/down.sh"
# .run/compose holds the keys of containers, which have their own `make compose-clean`.
if [[ -d $RUN ]]; then find "$RUN" -mindepth 1 -maxdepth 1 ! -name compose -exec rm -rf {} +; fi
rmdir "$RUN" 2>/dev/null || true
say "Deleted $RUN."
