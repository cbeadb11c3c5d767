# shellcheck shell=bash
# The stack's settings: secrets, .run/platform.env, and the servers' generated configuration. Sourced after lib.sh.

# secret NAME GENERATOR…: made once, kept until `make clean`
secret() {
  local file=$RUN/secrets/$1
  shift
  [[ -s $file ]] || { "$@" >"$file.new" && [[ -s $file.new ]] && mv "$file.new" "$file"; } || fail "cannot write $file"
  printf '%s' "$(<"$file")"
}

random_hex() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }
signing_key() { printf '%s:%s' "$1" "$(random_hex 32)"; }

# external NAME: this server's URL was given
external() { [[ -n ${URL_VARIABLE[$1]:-} && -n ${GIVEN[$1]:-} ]]; }

declare -A GIVEN=([redis]=${REDIS_URL:-} [rabbitmq]=${AMQP_URL:-} [mongod]=${MONGODB_URI:-})

# forget_own_urls: a shell that has read platform.env passes on our own servers' addresses, which do not count as given
forget_own_urls() {
  [[ -r $RUN/platform.env && -r $RUN/settings.bash ]] || return 0
  local name variable
  for name in "${!GIVEN[@]}"; do
    variable=${URL_VARIABLE[$name]}
    if [[ -n ${GIVEN[$name]} ]] && (
      given=${GIVEN[$name]}
      load_settings
      [[ -z ${GIVEN[$name]} && ${!variable} == "$given" ]]
    ); then GIVEN[$name]=''; fi
  done
}

# managed → the names this stack runs, in starting order
managed() {
  local name
  for name in "${ALL[@]}"; do external "$name" || printf '%s\n' "$name"; done
}

url() { printf 'http://127.0.0.1:%s' "${PORT[$1]}"; }

# load_settings: the settings that the running stack was started with, whatever the environment says now
load_settings() {
  # shellcheck source=/dev/null
  source "$RUN/settings.bash"
  # shellcheck source=/dev/null
  source "$RUN/platform.env"
}

write_settings() {
  mkdir -p "$RUN"/{secrets,pids,logs,bin,services} "$RUN/redis" "$RUN/rabbitmq" "$RUN/mongod" "$RUN/nginx/tmp"
  # One by one, so that a secret that cannot be written ends the start.
  local redis_password rabbitmq_password gateway_signing_keys token_signing_keys
  redis_password=$(secret redis_password random_hex 24)
  rabbitmq_password=$(secret rabbitmq_password random_hex 24)
  gateway_signing_keys=$(secret gateway_signing_keys signing_key g1)
  token_signing_keys=$(secret token_signing_keys signing_key t1)

  local redis_url=${GIVEN[redis]:-redis://:$redis_password@127.0.0.1:${PORT[redis]}}
  local amqp_url=${GIVEN[rabbitmq]:-amqp://sluice:$rabbitmq_password@127.0.0.1:${PORT[rabbitmq]}/%2f}
  local mongodb_uri=${GIVEN[mongod]:-mongodb://127.0.0.1:${PORT[mongod]}/?replicaSet=rs0}
  local management=${RABBITMQ_MANAGEMENT_URL:-}
  external rabbitmq || management=http://sluice:$rabbitmq_password@127.0.0.1:$RABBITMQ_MANAGEMENT_PORT

  local -A setting=(
    [EDGE_URL]=$(url nginx)
    [GATEWAY_URLS]="$(url gateway-1) $(url gateway-2)"
    [ADMIN_URLS]="http://127.0.0.1:${ADMIN_PORT[gateway-1]} http://127.0.0.1:${ADMIN_PORT[gateway-2]}"
    [USER_WORKER_URLS]="$(url user-worker-1) $(url user-worker-2)"
    [TASK_WORKER_URLS]="$(url task-worker-1) $(url task-worker-2)"
    [NOTIFICATION_WORKER_URLS]="$(url notification-worker-1) $(url notification-worker-2)"
    [REDIS_URL]=$redis_url
    [AMQP_URL]=$amqp_url
    [RABBITMQ_MANAGEMENT_URL]=$management
    [MONGODB_URI]=$mongodb_uri
    [GATEWAY_CONFIG]=${GATEWAY_CONFIG:-$ROOT/infra/gateway/gateway.yaml}
    [GATEWAY_SIGNING_KEYS]=$gateway_signing_keys
    [TOKEN_SIGNING_KEYS]=$token_signing_keys
    [REDIS_PASSWORD]=$redis_password
    [RABBITMQ_PASSWORD]=$rabbitmq_password
    [LOG]=${LOG:-}
  )
  local key
  {
    printf '# Written by make up: what runs, where, and its secrets.\n'
    for key in $(printf '%s\n' "${!setting[@]}" | sort); do
      printf "%s='%s'\n" "$key" "${setting[$key]//\'/\'\\\'\'}"
    done
  } >"$RUN/platform.env.new"
  mv "$RUN/platform.env.new" "$RUN/platform.env"
  declare -p PORT ADMIN_PORT GIVEN RABBITMQ_MANAGEMENT_PORT RABBITMQ_DIST_PORT EPMD_PORT |
    sed 's/^declare -A /declare -gA /; s/^declare -- //' >"$RUN/settings.bash"

  cat >"$RUN/redis/redis.conf" <<CONF
include "$ROOT/infra/redis/redis.conf"
bind 127.0.0.1
port ${PORT[redis]}
dir "$RUN/redis"
requirepass $redis_password
CONF
  {
    cat "$ROOT/infra/rabbitmq/rabbitmq.conf"
    cat <<CONF
listeners.tcp.1 = 127.0.0.1:${PORT[rabbitmq]}
management.tcp.ip = 127.0.0.1
management.tcp.port = $RABBITMQ_MANAGEMENT_PORT
default_user = sluice
default_pass = $rabbitmq_password
CONF
  } >"$RUN/rabbitmq/rabbitmq.conf"
  write_nginx
}

write_nginx() {
  local gateway files
  files=$(ulimit -n)
  {
    # Unprivileged worker processes need no file: the master opens everything.
    ((EUID == 0)) && printf 'user www-data;\n'
    cat <<CONF
daemon off;
pid "$RUN/nginx/nginx.pid";
error_log stderr warn;
worker_processes auto;
worker_rlimit_nofile $files;
worker_shutdown_timeout 10m;
events { worker_connections $((files < 33000 ? files - 200 : 32768)); }
http { include "$ROOT/infra/nginx/edge.conf"; }
CONF
  } >"$RUN/nginx/nginx.conf"
  printf 'listen 127.0.0.1:%s backlog=4096;\n' "${PORT[nginx]}" >"$RUN/nginx/listen.conf"
  for gateway in "${GATEWAYS[@]}"; do
    printf 'server 127.0.0.1:%s max_fails=1 fail_timeout=1s;\n' "${PORT[$gateway]}"
  done >"$RUN/nginx/upstream.conf"
  # Each gateway again, as a backup that is never marked as failed. If one gateway was just restarted and the next one stops, nginx would
  # otherwise skip both.
  for gateway in "${GATEWAYS[@]}"; do
    printf 'server 127.0.0.1:%s backup max_fails=0;\n' "${PORT[$gateway]}"
  done >>"$RUN/nginx/upstream.conf"
}
