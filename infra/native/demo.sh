#!/usr/bin/env bash
# `make demo`: the whole story over HTTP, against EDGE_URL, or else whatever runs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
find_edge "${EDGE_URL:-}"
cd "$ROOT"
umask 022
quick=${CARGO_TARGET_DIR:-$ROOT/target}/quick
# Where `make run` was built, the demo is nearly there; elsewhere it needs little.
features=(--no-default-features)
[[ ! -x $quick/standalone ]] || features=()
cargo build --profile quick --locked --quiet -p standalone "${features[@]}" --bin demo
exec "$quick/demo" --url "$edge"
