# shellcheck shell=bash
# shellcheck disable=SC2034 # its variables are used by those who source it
# What every script of `make up` shares: paths, names, ports, messages. Sourced, never run.

set -euo pipefail
umask 077

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
NATIVE=$ROOT/infra/native
RUN=${SLUICE_RUN_DIR:-$ROOT/.run}
TOOLS=$ROOT/.tools
SERVICES=$RUN/services

# Started in this order, stopped in the reverse one.
SERVERS=(redis rabbitmq mongod)
WORKERS=(user-worker-1 user-worker-2 task-worker-1 task-worker-2 notification-worker-1 notification-worker-2)
GATEWAYS=(gateway-1 gateway-2)
ALL=("${SERVERS[@]}" "${WORKERS[@]}" "${GATEWAYS[@]}" nginx)

# The workers' ports are those in infra/gateway/gateway.yaml.
declare -A PORT=(
  [nginx]=${EDGE_PORT:-8080}
  [gateway-1]=${GATEWAY_1_PORT:-8001} [gateway-2]=${GATEWAY_2_PORT:-8002}
  [user-worker-1]=4001 [user-worker-2]=4011
  [task-worker-1]=4002 [task-worker-2]=4012
  [notification-worker-1]=4003 [notification-worker-2]=4013
  [redis]=${REDIS_PORT:-16379} [rabbitmq]=${RABBITMQ_PORT:-15673} [mongod]=${MONGOD_PORT:-27117}
)
declare -A ADMIN_PORT=([gateway-1]=${GATEWAY_1_ADMIN_PORT:-9001} [gateway-2]=${GATEWAY_2_ADMIN_PORT:-9002})
RABBITMQ_MANAGEMENT_PORT=${RABBITMQ_MANAGEMENT_PORT:-15674}
RABBITMQ_DIST_PORT=${RABBITMQ_DIST_PORT:-15675}
EPMD_PORT=${EPMD_PORT:-14369}

# If a server's URL is in the environment, that server is used, and none is installed or started.
declare -A URL_VARIABLE=([redis]=REDIS_URL [rabbitmq]=AMQP_URL [mongod]=MONGODB_URI)

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

need_cargo() { have cargo || fail "cargo is missing: install Rust 1.95 or later from https://rustup.rs, then run this again"; }

now_ms() { date +%s%3N; }

# since START_MS → "1.3 s"
since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

# step START_MS WHAT RESULT…: one line of progress
step() {
  local start=$1 what=$2
  shift 2
  printf '  %-24s %-40s %8s\n' "$what" "$*" "$(since "$start")"
}

# Debian installs servers outside an unprivileged user's PATH. A rustup that was just installed has not changed the shell's PATH yet.
for folder in "${HOME:-/root}/.cargo/bin" /usr/sbin /sbin; do
  [[ :$PATH: == *":$folder:"* ]] || PATH=$PATH:$folder
done

# written FILE NAME → the value that a file of shell assignments gives it
written() { if [[ -r $1 ]]; then sed -n "s/^$2='\(.*\)'$/\1/p" "$1"; fi; }

reachable() { curl --silent --output /dev/null --max-time 5 "$1/"; }

# What `make up` has written, while it runs, and what `make compose-up` has chosen, until `make compose-down`.
native_setting() { if [[ -d $RUN/pids ]]; then written "$RUN/platform.env" "$1"; fi; }
# What `make run` has noted, while its process lives.
standalone_setting() {
  local pid
  pid=$(written "$RUN/standalone.env" PID)
  if [[ -n $pid && $(readlink "/proc/$pid/exe" 2>/dev/null) == */standalone* ]]; then written "$RUN/standalone.env" "$1"; fi
}
compose_setting() { written "$RUN/compose/compose.env" "$1"; }
compose_edge() {
  local address
  address=$(compose_setting EDGE_ADDRESS)
  [[ -z $address ]] || printf 'http://%s:%s' "${address/#0.0.0.0/127.0.0.1}" "$(compose_setting EDGE_PORT)"
}

# find_edge GIVEN: sets `edge` to GIVEN, or else to the first that answers of what `make up` started, what `make compose-up` started,
# and the usual address
find_edge() {
  local candidates=("$1")
  have curl || fail "curl is missing: install it, then run this again"
  [[ -n $1 ]] || candidates=("$(native_setting EDGE_URL)" "$(standalone_setting EDGE_URL)" "$(compose_edge)" "http://127.0.0.1:${PORT[nginx]}")
  for edge in "${candidates[@]}"; do
    if [[ -n $edge ]] && reachable "$edge"; then return; fi
  done
  fail "nothing answers at $edge. Start the platform: make run, make up or make compose-up"
}

find_mongod() {
  if have mongod; then
    command -v mongod
  elif [[ -x ${SLUICE_MONGOD:-} ]]; then
    printf '%s\n' "$SLUICE_MONGOD"
  elif [[ -x $TOOLS/mongod/mongod ]]; then
    printf '%s\n' "$TOOLS/mongod/mongod"
  else
    return 1
  fi
}
