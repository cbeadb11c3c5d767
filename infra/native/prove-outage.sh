#!/usr/bin/env bash
# `make prove-outage`: tasks are created while RabbitMQ is dead. What they are answered, what piles up, what that takes in memory, and how
# soon all of it is told. On the stack of `make up`, with raised limits. docs/proofs/README.md says how to read it.
#   OUTAGE=60s RATE=800 PENDING=0 CONNECTIONS=64 OUT=.run/proofs/outage.json
#
#   prove-outage.sh away     kills RabbitMQ and keeps it from coming back
#   prove-outage.sh back     starts it again
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"
supervisor_runs || fail "nothing runs. Start it: make up"
load_settings
if external rabbitmq; then fail "RabbitMQ is not of this stack (AMQP_URL): it is not ours to kill"; fi

case ${1:-run} in
  away)
    touch "$SERVICES/rabbitmq/down"
    s6-svc -wd -T 10000 -dk "$SERVICES/rabbitmq"
    exit
    ;;
  back)
    rm -f "$SERVICES/rabbitmq/down"
    s6-svc -u "$SERVICES/rabbitmq"
    exit
    ;;
  run) ;;
  *) fail "prove-outage.sh knows away and back, not '$1'" ;;
esac

need_cargo
"$NATIVE/install.sh" load
cd "$ROOT"
ulimit -n "$(ulimit -Hn)"
out=${OUT:-$RUN/proofs/outage.json}
mkdir -p "$(dirname "$out")" "$RUN/load"
umask 022
cargo build --release --locked --quiet -p tools --bin load
umask 077
PATH=$PATH:$TOOLS/bin
processes=()
# (nginx' own is a master process, whose workers do the work.)
for name in $(managed); do [[ $name == nginx ]] || processes+=(--process "$RUN/pids/$name.pid"); done
# Whatever happens, it comes back.
trap '"$NATIVE/prove-outage.sh" back' EXIT
"${CARGO_TARGET_DIR:-$ROOT/target}/release/load" --url "$(url nginx)" --folder "$RUN/load" --oha oha --connections "${CONNECTIONS:-64}" outage \
  --away "'$NATIVE/prove-outage.sh' away" --back "'$NATIVE/prove-outage.sh' back" \
  --length="${OUTAGE:-60s}" --rate="${RATE:-800}" --pending="${PENDING:-0}" "${processes[@]}" --json "$out"
