#!/usr/bin/env bash
# `make load`: the load test with oha, against URL, or else whatever runs. docs/load-testing.md says how to read it.
#
#   load.sh            URL, DURATION, CONNECTIONS, USERS, MIX and SCENARIO in the environment say what is measured
#   load.sh token      prints an access token, for your own requests
#   load.sh limits     writes a copy of the gateway's configuration with raised limits, and says how to run with it
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
command=${1:-run}
folder=$RUN/load

# The copy differs from the original only in rates and bursts. RateLimit-Policy can express a burst of one second's rate exactly.
raised_limits() {
  local original=${GATEWAY_CONFIG:-$ROOT/infra/gateway/gateway.yaml} raised=$folder/gateway.yaml
  mkdir -p "$folder"
  # A raised copy is not an original.
  [[ ! $original -ef $raised ]] || original=$ROOT/infra/gateway/gateway.yaml
  sed -E 's#(rate: *)[0-9]+/[a-z]+(, *burst: *)[0-9]+#\11000000/s\21000000#' "$original" >"$raised"
  ! cmp -s "$original" "$raised" || fail "$original has no \`rate: N/s, burst: N\` to raise: raise its limits by hand"
  cat <<TEXT
$raised
The limits of $original, raised. Run with them, and without them again:

  make down; GATEWAY_CONFIG=$raised make up
  make down; make up
TEXT
}

case $command in
  run | token) ;;
  limits)
    raised_limits
    exit
    ;;
  *) fail "load.sh knows token and limits, not '$command'" ;;
esac

need_cargo
find_edge "${URL:-${EDGE_URL:-}}"
# The gateways' admin listeners, if they can be reached.
case $edge in
  "$(native_setting EDGE_URL)") admins=$(native_setting ADMIN_URLS) ;;
  "$(compose_edge)")
    admins=$(docker ps --filter "label=com.docker.compose.project=$(compose_setting COMPOSE_PROJECT_NAME)" \
      --filter label=com.docker.compose.service=gateway --format 'container:{{.Names}}' | tr '\n' ' ') || true ;;
  *) admins= ;;
esac
if [[ $command == run ]]; then "$NATIVE/install.sh" load; fi

cd "$ROOT"
umask 022
cargo build --release --locked --quiet -p tools --bin load
umask 077
PATH=$PATH:$TOOLS/bin
# Each connection is a file, on both sides.
ulimit -n "$(ulimit -Hn)"
options=(--url "$edge" --folder "$folder" --oha oha --admins "$admins")
if [[ $command == token ]]; then exec "${CARGO_TARGET_DIR:-$ROOT/target}/release/load" "${options[@]}" token; fi
for name in DURATION CONNECTIONS USERS MIX SCENARIO; do
  if [[ -n ${!name:-} ]]; then options+=("--${name,,}" "${!name}"); fi
done
exec "${CARGO_TARGET_DIR:-$ROOT/target}/release/load" "${options[@]}"
