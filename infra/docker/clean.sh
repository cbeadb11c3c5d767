#!/usr/bin/env bash
# `make compose-clean`: deletes everything that `make compose-up` made: containers, networks, volumes with all data, images, keys.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_engine
one_at_a_time
log=$RUN/down.log
compose down --remove-orphans --volumes --rmi all >"$log" 2>&1 || fail "$(tail -1 "$log") (log: $log)"
prune_images
rm -rf "$RUN"
say "Deleted containers, networks, volumes and images of $COMPOSE_PROJECT_NAME, and $RUN."
say "The engine keeps its build cache, so that the next build is fast: docker builder prune deletes it."
