#!/usr/bin/env bash
# `make up`: brings the whole stack on this machine from any state to "everything is ready". Run again, it starts what is stopped and
# gracefully restarts what was built anew.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"
source "$NATIVE/checks.sh"

BINARIES=(gateway user-worker task-worker notification-worker)
BUILT=${SLUICE_BIN_DIR:-${CARGO_TARGET_DIR:-$ROOT/target}/release}

raise_file_limit() {
  ulimit -n 65535 2>/dev/null || ulimit -n "$(ulimit -Hn)"
  $fresh || return 0
  (($(ulimit -n) >= 45000)) || warn "at most $(ulimit -n) open files per process here: 20,000 clients, each with a connection upstream, need 45,000 (ulimit -Hn)"
}

# Processes run copies, so that a later build cannot change them under a crash restart. Sets changed=(binary…).
install_binaries() {
  local binary
  changed=()
  for binary in "${BINARIES[@]}"; do
    [[ -x $BUILT/$binary ]] || fail "$BUILT/$binary does not exist"
    cmp -s "$BUILT/$binary" "$RUN/bin/$binary" && continue
    install -m 755 "$BUILT/$binary" "$RUN/bin/$binary.new"
    mv "$RUN/bin/$binary.new" "$RUN/bin/$binary"
    changed+=("$binary")
  done
  printf '#!/usr/bin/env bash\nexport SLUICE_RUN_DIR=%q\nexec %q "$@"\n' "$RUN" "$NATIVE/restart.sh" >"$RUN/bin/restart"
  chmod 755 "$RUN/bin/restart"
}

prepare_mongo() {
  external mongod && return
  local reply address=127.0.0.1:${PORT[mongod]}
  reply=$("$RUN/bin/user-worker" prepare-mongo --uri "mongodb://$address/?directConnection=true" --host "$address" 2>&1) ||
    fail "the replica set of mongod could not be initiated: $(tail -1 <<<"$reply") (log: $RUN/logs/mongod.log)"
}

# A child may still run and hold this stack's ports although its supervisor was killed.
sweep_remains() {
  local name
  for name in "${ALL[@]}"; do
    if supervised "$name"; then
      SLUICE_LOCKED=1 "$NATIVE/down.sh" >/dev/null
      return
    fi
  done
}

summary() {
  local address=$EDGE_URL
  cat <<TEXT

Everything is ready ($(since "$begin_all")).
  edge            $EDGE_URL
  gateways        $GATEWAY_URLS   (admin: $ADMIN_URLS)
  user            $USER_WORKER_URLS
  task            $TASK_WORKER_URLS
  notification    $NOTIFICATION_WORKER_URLS
  addresses, secrets: $RUN/platform.env    logs: $RUN/logs/

Try:  make demo      or:
  curl -i $address/api/users/register -H 'content-type: application/json' \\
    -d '{"email":"ada@example.org","password":"correct horse battery","name":"Ada"}'
TEXT
}

begin_all=$(now_ms)
check_paths
declare -A asked=()
for name in "${SERVERS[@]}"; do asked[$name]=${GIVEN[$name]}; done
fresh=true
finished=false
mkdir -p "$RUN"

# One make up at a time.
exec 8>"$RUN/lock"
flock -n 8 || fail "another make up or make down is running in $RUN"

"$NATIVE/install.sh" up

if supervisor_runs; then
  fresh=false
  load_settings
  for name in "${SERVERS[@]}"; do
    variable=${URL_VARIABLE[$name]}
    if [[ -n ${asked[$name]} && ${asked[$name]} != "${!variable}" ]]; then
      fail "the stack runs with another $variable: make down first"
    fi
  done
else
  sweep_remains
  forget_own_urls
  check_given_all
  check_ports
fi
raise_file_limit

# An interrupted or failed first start leaves only logs and data behind.
give_up() {
  local status=$?
  if $fresh && ! $finished && supervisor_runs; then
    SLUICE_LOCKED=1 "$NATIVE/down.sh" >/dev/null 2>&1 || true
  fi
  exit "$status"
}
trap give_up EXIT
trap 'printf "interrupted: stopping what was started\n" >&2; exit 130' INT TERM

if [[ -z ${SLUICE_BIN_DIR:-} ]]; then "$NATIVE/build.sh"; fi
if $fresh; then write_settings; fi
load_settings
install_binaries
if $fresh; then
  changed=()
  start_supervisor
fi

say "Starting"
# shellcheck disable=SC2034 # wait_ready reads it
STARTED=$(now_ms)
running=()
for name in $(managed); do if is_up "$name"; then running+=("$name"); fi; done
servers=()
for name in "${SERVERS[@]}"; do if ! external "$name"; then servers+=("$name"); fi; done
for name in "${servers[@]}"; do start "$name"; done
wait_ready 60 "${servers[@]}"
prepare_mongo
for name in "${WORKERS[@]}" "${GATEWAYS[@]}"; do start "$name"; done
wait_ready 60 "${WORKERS[@]}" "${GATEWAYS[@]}"
start nginx
wait_ready 30 nginx

for name in "${WORKERS[@]}" "${GATEWAYS[@]}"; do
  for binary in "${changed[@]}"; do
    if [[ ${name%-[12]} == "$binary" && " ${running[*]} " == *" $name "* ]]; then SLUICE_LOCKED=1 "$NATIVE/restart.sh" "$name"; fi
  done
done
finished=true
summary
