#!/usr/bin/env bash
# `make demo`: the whole story over HTTP, against EDGE_URL, or else whatever runs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
find_edge "${EDGE_URL:-}"
cd "$ROOT"
umask 022
quick=${CARGO_TARGET_DIR:-$ROOT/target}/quick
cargo build --profile quick --locked --quiet -p tools --bin demo
exec "$quick/demo" --url "$edge"
