#!/usr/bin/env bash
# `make compose-up`: brings the whole stack in containers from any state to "everything is healthy". Run again, it changes only what
# is stopped, has other settings, or was built anew.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$DOCKER/settings.sh"
# For `wait_until` and `check_given`.
# shellcheck source=../native/services.sh
source "$NATIVE/services.sh"
# shellcheck source=../native/checks.sh
source "$NATIVE/checks.sh"

begin_all=$(now_ms)
need_engine
one_at_a_time
choose
choose_servers

# The port is free, or this stack's nginx has it already.
check_edge_port() {
  local container holder=''
  container=$(compose ps --quiet nginx 2>/dev/null | head -1)
  [[ -n $container && $(docker port "$container" 8080/tcp 2>/dev/null) == *":$EDGE_PORT" ]] && return
  local address=$EDGE_ADDRESS
  [[ $address == 0.0.0.0 ]] && address=127.0.0.1
  (exec 3<>"/dev/tcp/$address/$EDGE_PORT") 2>/dev/null || return 0
  if have ss; then holder=$(ss -Hltnp "sport = :$EDGE_PORT" | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/ by \1 (pid \2)/p' | head -1); fi
  [[ -e ${SLUICE_RUN_DIR}/pids/nginx.pid && $holder == *nginx* ]] && holder=" by make up"
  fail "port $EDGE_PORT is taken$holder. Stop that, or choose another port: EDGE_PORT=$((EDGE_PORT + 10000 > 65535 ? EDGE_PORT - 1 : EDGE_PORT + 10000)) make compose-up"
}

build() {
  local begin log=$RUN/build.log
  begin=$(now_ms)
  say "Building (the first time takes minutes; log: $log)"
  VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
  REVISION=$(git rev-parse HEAD 2>/dev/null || printf unknown)
  export VERSION REVISION
  compose build >"$log" 2>&1 || {
    grep -A 12 -m 3 -E '^(#[0-9]+ [0-9.]+ )?(error|ERROR)' "$log" >&2 || tail -n 5 "$log" >&2
    fail "the build failed (log: $log)"
  }
  step "$begin" built images
}

# `compose run` would build what is missing.
need_image() {
  docker image inspect "$COMPOSE_PROJECT_NAME-gateway" >/dev/null 2>&1 ||
    fail "there is no image $COMPOSE_PROJECT_NAME-gateway, and SLUICE_BUILD=0 forbids building it"
}

# Report a wrong configuration here; otherwise the gateways would just not start.
check_gateway_config() {
  local said
  said=$(compose run --rm --no-deps gateway --check /etc/sluice/new.yaml 2>&1) && return
  if [[ $said == *rlimit* && $OPEN_FILES == 65535 ]]; then
    # The engine may not be allowed to raise the limit; then its own limit must do.
    OPEN_FILES=$(docker run --rm --entrypoint sh "$COMPOSE_PROJECT_NAME-nginx" -c 'ulimit -Hn')
    warn "at most $OPEN_FILES open files per process here: 20,000 clients, each with a connection upstream, need 45,000 (the engine's own ulimit -Hn)"
    check_gateway_config
    return
  fi
  if [[ $said == *overlaps* ]]; then
    fail "$EDGE_NETWORK.0/24 overlaps with another network of this engine (of another copy of the stack?). Choose one that is free: EDGE_NETWORK=10.213.78 make compose-up"
  fi
  said=$(grep -v -E '^ *(Container|Network|Volume) ' <<<"$said" | sed "s|/etc/sluice/new.yaml|$GATEWAY_CONFIG|")
  [[ $said == *"$GATEWAY_CONFIG:"* ]] || fail "the gateway's image does not run: $said"
  printf '%s\n' "$said" >&2
  fail "$GATEWAY_CONFIG was refused"
}

# why: the containers that are not healthy, with the last log lines of each
why() {
  local id name state
  while read -r id; do
    read -r name state < <(docker inspect --format '{{.Name}} {{.State.Status}}{{if .State.Health}},{{.State.Health.Status}}{{end}},{{.State.ExitCode}}' "$id")
    case $state in running,healthy,* | running,starting,* | created,* | exited,0) continue ;; esac
    printf '%s is %s; it said:\n' "${name#/}" "$state"
    docker logs --tail 5 "$id" 2>&1 | sed 's/^/    /'
  done < <(containers)
}

# answers PATH: whether the edge answers with 200
answers() {
  local line address=$EDGE_ADDRESS
  [[ $address == 0.0.0.0 ]] && address=127.0.0.1
  {
    exec 3<>"/dev/tcp/$address/$EDGE_PORT"
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&3
    IFS= read -r -t 5 line <&3
  } 2>/dev/null || return 1
  [[ $line == 'HTTP/1.1 200 '* ]]
}

start_all() {
  local begin log=$RUN/up.log options=(--detach --no-build --remove-orphans --wait --wait-timeout 180)
  begin=$(now_ms)
  say "Starting"
  # Containers keep the secrets that they were started with.
  $SECRETS_CHANGED && [[ -n $(containers) ]] && options+=(--force-recreate)
  compose up "${options[@]}" >"$log" 2>&1 || {
    why >&2
    fail "not everything became healthy: $(grep -iE 'error|fail|unhealthy|overlap' "$log" | tail -1) (log: $log)"
  }
  renew_gateways
  answers /.well-known/jwks.json || fail "all containers are healthy, but the edge does not answer (see make compose-logs NAME=nginx)"
  step "$begin" "$(compose ps --quiet | wc -l) containers" healthy
}

is_healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$1") == healthy ]]; }

# Restarts gateways that started before their configuration changed, one after the other, so that the edge always has one.
renew_gateways() {
  local id started changed
  changed=$(stat -c %Y "$RUN/gateway/gateway.yaml")
  for id in $(compose ps --quiet gateway); do
    started=$(date -d "$(docker inspect --format '{{.State.StartedAt}}' "$id")" +%s)
    ((started < changed)) || continue
    docker restart --time 40 "$id" >/dev/null
    wait_until 60 is_healthy "$id" || fail "a gateway does not become healthy with the changed configuration: $(docker logs --tail 1 "$id" 2>&1)"
  done
}

summary() {
  # shellcheck disable=SC2128 # a number here, see lib.sh
  local url=http://$EDGE_ADDRESS:$EDGE_PORT gateways=$GATEWAYS
  cat <<TEXT

Everything is healthy ($(since "$begin_all")).
  edge            $url   ($gateways gateways behind it)
  secrets, gateway.yaml: $RUN/    logs: make compose-logs

  $([[ $url == http://127.0.0.1:8080 ]] || printf 'EDGE_URL=%s ' "$url")make demo
TEXT
}

check_edge_port
check_given_all
check_networks
write_secrets
write_gateway_config
if [[ ${SLUICE_BUILD:-1} == 0 ]]; then need_image; else build; fi
check_gateway_config
use_gateway_config
remember
start_all
prune_images
summary
