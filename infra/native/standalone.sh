#!/usr/bin/env bash
# `make run`: the whole platform in one process, without a server beside it. Needs cargo and a C compiler, and installs nothing.
#   LISTEN, ADMIN_LISTEN, DATA_DIR, RATE, BURST, LOG …: see `cargo run -p standalone -- --help`; ARGS="--rate 1000/s" also works
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
have cc || fail "a C compiler is missing: install gcc or clang (Debian: apt-get install build-essential)"
cd "$ROOT"
umask 022
# Cargo shows its own progress. The demo with it: what comes next should not have to wait.
cargo build --profile quick --locked -p standalone -p tools --bin standalone --bin demo
# For `make status` and `make down`.
mkdir -p "$RUN"
export RUN_FILE=$RUN/standalone.env
read -r -a arguments <<<"${ARGS:-}"
exec "${CARGO_TARGET_DIR:-$ROOT/target}/quick/standalone" "${arguments[@]}"
