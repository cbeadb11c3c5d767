#!/usr/bin/env bash
# `make demo`: the whole story over HTTP, against whatever runs: EDGE_URL, or else what `make up` started.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
if [[ -z ${EDGE_URL:-} && -r $RUN/platform.env ]]; then
  # shellcheck source=/dev/null
  source "$RUN/platform.env"
fi
url=${EDGE_URL:-http://127.0.0.1:${PORT[nginx]}}
[[ $(curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}' "$url/") != 000 ]] ||
  fail "nothing answers at $url. Start the platform: make run, or make up"
cd "$ROOT"
umask 022
quick=${CARGO_TARGET_DIR:-$ROOT/target}/quick
# Where `make run` was built, the demo is nearly there; elsewhere it needs little.
features=(--no-default-features)
[[ ! -x $quick/standalone ]] || features=()
cargo build --profile quick --locked --quiet -p standalone "${features[@]}" --bin demo
exec "$quick/demo" --url "$url"
