#!/usr/bin/env bash
# `make prove-limits`: two gateways and a Redis that fails in ten ways, requests at several times the limit, and every window of time held
# against burst + rate * t. Real processes, on free ports in temporary folders.
#   SECONDS_EACH=10 OUTAGE=600 KEYS=10000000 OUT=.run/proofs/limits.json SVG=.run/proofs/limits.svg
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
"$NATIVE/install.sh" test
cd "$ROOT"
ulimit -n "$(ulimit -Hn)"
export PROVE_SECONDS=${SECONDS_EACH:-10} PROVE_OUTAGE=${OUTAGE:-600} PROVE_KEYS=${KEYS:-10000000}
out=${OUT:-$RUN/proofs/limits.json} svg=${SVG:-$RUN/proofs/limits.svg}
mkdir -p "$(dirname "$out")" "$(dirname "$svg")"
PROVE_OUT=$(realpath "$out")
PROVE_SVG=$(realpath "$svg")
export PROVE_OUT PROVE_SVG
echo "Building (the first time takes minutes)"
# As released: a debug build is not what anybody limits with.
cargo build --release --locked --quiet -p gateway
cargo test --release --locked --quiet -p prove --test limits --no-run
cargo test --release --locked --quiet -p prove --test limits -- --nocapture
echo "The result: $out, $svg"
