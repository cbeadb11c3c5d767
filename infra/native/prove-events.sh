#!/usr/bin/env bash
# `make prove-events`: every kind of fault, many times over, while clients change tasks; then the history of their answers is compared with
# what every user can read. Real servers, started on free ports in temporary folders.
#   OPERATIONS=100000 FAULTS=240 CLIENTS=64 SEED=1 OUT=.run/proofs/events.json
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
"$NATIVE/install.sh" test
cd "$ROOT"
ulimit -n "$(ulimit -Hn)"
SLUICE_MONGOD=$(find_mongod)
export SLUICE_MONGOD
export PROVE_OPERATIONS=${OPERATIONS:-100000} PROVE_FAULTS=${FAULTS:-240} PROVE_CLIENTS=${CLIENTS:-64} PROVE_SEED=${SEED:-1}
out=${OUT:-$RUN/proofs/events.json}
mkdir -p "$(dirname "$out")"
PROVE_OUT=$(realpath "$out")
export PROVE_OUT
echo "Building (the first time takes minutes)"
# As released, but for the fail points. The other packages are named for their binaries, which the proof starts.
packages=(-p prove -p gateway -p user-worker -p task-worker -p notification-worker)
cargo build --release --locked --quiet "${packages[@]}" --bins --test events
cargo test --release --locked --quiet "${packages[@]}" --test events -- --nocapture
echo "The result, as JSON: $out"
