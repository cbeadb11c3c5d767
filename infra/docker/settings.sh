# shellcheck shell=bash
# shellcheck disable=SC2034 # its variables are used by those who source it
# The stack's settings, its secrets, and the files that compose.yaml reads. Sourced after lib.sh.

# The generators of `make up`; its `secret` keeps what it makes in $RUN/secrets.
# shellcheck source=../native/settings.sh
source "$NATIVE/settings.sh"

# Each is a variable in compose.yaml. What the environment sets is remembered until `make compose-down`.
declare -A CHOICES=(
  [GATEWAYS]=2 [WORKERS]=2 [EDGE_ADDRESS]=127.0.0.1 [EDGE_PORT]=8080 [EDGE_NETWORK]=10.213.77
  [GATEWAY_CONFIG]=$ROOT/infra/gateway/gateway.yaml [OPEN_FILES]=65535 [LOG]=''
)
# A server's URL: its secret, and its variables in compose.yaml.
declare -A SECRET=([REDIS_URL]=redis_url [AMQP_URL]=amqp_url [MONGODB_URI]=mongodb_uri)
declare -A PREFIX=([REDIS_URL]=REDIS [AMQP_URL]=RABBITMQ [MONGODB_URI]=MONGO)

remembered() { written "$CHOSEN" "$1"; }

# choose: every setting from the environment, else as remembered, else its default
choose() {
  local name value
  for name in "${!CHOICES[@]}"; do
    value=${!name:-$(remembered "$name")}
    value=${value:-${CHOICES[$name]}}
    # Unset, each program has its own default.
    if [[ -n $value ]]; then export "$name=$value"; else unset "$name"; fi
  done
  for name in GATEWAYS WORKERS; do
    [[ ${!name} =~ ^[1-9][0-9]?$ ]] || fail "$name=${!name} is not a number from 1 to 99"
  done
  if ! [[ $EDGE_PORT =~ ^[1-9][0-9]{0,4}$ ]] || ((EDGE_PORT > 65535)); then fail "EDGE_PORT=$EDGE_PORT is not a port"; fi
  [[ $EDGE_NETWORK =~ ^([0-9]{1,3}\.){2}[0-9]{1,3}$ ]] || fail "EDGE_NETWORK=$EDGE_NETWORK is not the beginning of a /24 network, such as 10.213.77"
  [[ -r $GATEWAY_CONFIG ]] || fail "GATEWAY_CONFIG=$GATEWAY_CONFIG cannot be read"
  GATEWAY_CONFIG=$(realpath "$GATEWAY_CONFIG")
}

# choose_servers: our servers, or those whose URLs are given or remembered
declare -A CHOSEN_URL=()
choose_servers() {
  local variable prefix given
  for variable in "${!SECRET[@]}"; do
    prefix=${PREFIX[$variable]} given=${!variable:-}
    [[ ! $given =~ [@/](localhost|127\.[0-9.]+|\[::1\])([:/?,]|$) ]] ||
      fail "$variable points to this machine's own 127.0.0.1, which is a different machine inside a container; unset it, or give an address that containers can reach"
    if [[ -z $given && $(remembered "${prefix}_REPLICAS") == 0 ]]; then given=$(<"$RUN/secrets/${SECRET[$variable]}"); fi
    CHOSEN_URL[$variable]=$given
    if [[ -n $given ]]; then
      export "${prefix}_REPLICAS=0" "${prefix}_INTERNAL=false"
    else
      export "${prefix}_REPLICAS=1" "${prefix}_INTERNAL=true"
    fi
  done
}

# The networks of running containers are not changed.
check_networks() {
  local name
  [[ -n $(containers) ]] || return 0
  for name in EDGE_NETWORK {REDIS,RABBITMQ,MONGO}_REPLICAS; do
    [[ -z $(remembered "$name") || $(remembered "$name") == "${!name}" ]] ||
      fail "the stack runs with another ${name/_REPLICAS/ server}: make compose-down first"
  done
}

# If containers exist, a newly generated secret would not be the one they have.
SECRETS_CHANGED=false

# keep NAME VALUE: a secret's file with this content
keep() {
  local file=$RUN/secrets/$1
  [[ -f $file && $(<"$file") == "$2" ]] && return
  SECRETS_CHANGED=true
  printf '%s' "$2" >"$file.new"
  mv "$file.new" "$file"
}

write_secrets() {
  mkdir -p "$RUN/secrets"
  secret gateway_signing_keys signing_key g1 >/dev/null
  secret token_signing_keys signing_key t1 >/dev/null
  local redis_password rabbitmq_password variable
  redis_password=$(secret redis_password random_hex 24)
  rabbitmq_password=$(secret rabbitmq_password random_hex 24)
  local -A own=(
    [REDIS_URL]=redis://:$redis_password@redis:6379
    [AMQP_URL]=amqp://sluice:$rabbitmq_password@rabbitmq:5672/%2f
    [MONGODB_URI]=mongodb://mongo:27017/?replicaSet=rs0
  )
  for variable in "${!SECRET[@]}"; do
    keep "${SECRET[$variable]}" "${CHOSEN_URL[$variable]:-${own[$variable]}}"
  done
  # The folder is closed to other users. The files are readable, because containers read them as users that this machine does not know.
  chmod 700 "$RUN/secrets"
  chmod 444 "$RUN/secrets"/*
}

# The gateways' file is that of `make up`, with the containers' names instead of this machine's addresses, and with secrets from
# files. It is edited line by line, so that errors have the same line numbers as in the original. It is used only after it was checked.
write_gateway_config() {
  local new=$RUN/gateway/new.yaml
  mkdir -p "$RUN/gateway"
  sed -E \
    -e 's/127\.0\.0\.1:4001(, *127\.0\.0\.1:4011)?/user-worker:4001/' \
    -e 's/127\.0\.0\.1:4002(, *127\.0\.0\.1:4012)?/task-worker:4002/' \
    -e 's/127\.0\.0\.1:4003(, *127\.0\.0\.1:4013)?/notification-worker:4003/' \
    -e "s|^trusted_proxies: *\[127\.0\.0\.1/32\]|trusted_proxies: [$EDGE_NETWORK.2/32]|" \
    -e 's|^signing_keys: *\$\{GATEWAY_SIGNING_KEYS\}|signing_keys_file: /run/secrets/gateway_signing_keys|' \
    -e 's|^(redis:.*[{ ])url: *"?\$\{REDIS_URL\}"?|\1url_file: /run/secrets/redis_url|' \
    -e "s|^(  gateways:) *[0-9]+|\1 $GATEWAYS|" \
    "$GATEWAY_CONFIG" >"$new"
  # Readable for the containers' users; it holds no secret.
  chmod 755 "$RUN/gateway"
  chmod 644 "$new"
}

# Its modification time shows which gateways have not read it yet.
use_gateway_config() {
  if cmp -s "$RUN"/gateway/{new,gateway}.yaml; then rm "$RUN/gateway/new.yaml"; else mv "$RUN"/gateway/{new,gateway}.yaml; fi
}

remember() {
  local name
  {
    printf '# Written by make compose-up: what was chosen. For docker compose --env-file.\n'
    for name in COMPOSE_PROJECT_NAME SLUICE_RUN_DIR "${!CHOICES[@]}" {REDIS,RABBITMQ,MONGO}_{REPLICAS,INTERNAL}; do
      if [[ -n ${!name:-} ]]; then printf "%s='%s'\n" "$name" "${!name}"; fi
    done | sort
  } >"$CHOSEN.new"
  mv "$CHOSEN.new" "$CHOSEN"
}
