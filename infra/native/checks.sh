# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # PORT, GIVEN are lib.sh's and settings.sh's
# Checks before anything starts: do the given servers answer, are the ports free? Sourced after lib.sh.

# Spaces are allowed. RabbitMQ passes its folder to a shell without quoting it, and nginx expands dollar signs.
check_paths() {
  local path
  for path in "$ROOT" "$RUN"; do
    [[ $path != *[\'\"\\\$\`\;\&\|]* ]] || fail "$path contains a quote, a dollar sign or the like, which RabbitMQ and nginx do not support: move the checkout, or set SLUICE_RUN_DIR"
  done
}

declare -A SCHEMES=([redis]='rediss?' [rabbitmq]='amqps?' [mongod]='mongodb(\+srv)?')
declare -A EXAMPLE=([redis]=redis://:password@host:6379 [rabbitmq]=amqp://user:password@host:5672/%2f [mongod]=mongodb://user:password@host:27017)
declare -A DEFAULT_PORT=([redis]=6379 [rediss]=6379 [amqp]=5672 [amqps]=5671 [mongodb]=27017)
declare -A TITLE=([redis]=Redis [rabbitmq]=RabbitMQ [mongod]=MongoDB)

percent_decode() { printf '%b' "${1//%/\\x}"; }

# One command in Redis' own protocol.
redis_command() {
  local LC_ALL=C word
  printf '*%d\r\n' "$#"
  for word in "$@"; do printf '$%d\r\n%s\r\n' "${#word}" "$word"; done
}

# check_redis_login HOST PORT USER PASSWORD: prints why it was refused
check_redis_login() {
  local reply
  exec 3<>"/dev/tcp/$1/$2"
  if [[ -n $4 ]]; then
    if [[ -n $3 ]]; then redis_command AUTH "$3" "$4" >&3; else redis_command AUTH "$4" >&3; fi
    IFS= read -r -t 3 reply <&3 || reply="-no answer"
    [[ $reply == +OK* ]] || { printf '%s' "${reply#-}" | tr -d '\r' && return 1; }
  fi
  redis_command PING >&3
  IFS= read -r -t 3 reply <&3 || reply="-no answer"
  [[ $reply == +PONG* ]] || { printf '%s' "${reply#-}" | tr -d '\r' && return 1; }
}

# check_given NAME: the URL in the environment is well-formed, and a server listens there
check_given() {
  local name=$1 variable=${URL_VARIABLE[$1]} url=${GIVEN[$1]} title=${TITLE[$1]} scheme rest hosts userinfo='' host port address problem
  local hint="change or unset $variable (unset, a $title of our own is started)"
  [[ $url =~ ^(${SCHEMES[$name]})://([^[:space:]]+)$ ]] ||
    fail "$variable is not a $title address: it must look like ${EXAMPLE[$name]}; $hint"
  scheme=${url%%://*}
  rest=${url#*://}
  rest=${rest%%[/?]*}
  [[ $rest == *@* ]] && userinfo=${rest%@*}
  hosts=${rest##*@}
  [[ -n $hosts ]] || fail "$variable names no host; $hint"
  # An SRV record names the hosts; the workers look it up and say in their logs what is wrong with it.
  [[ $scheme == mongodb+srv ]] && return

  for address in ${hosts//,/ }; do
    host=$address port=${DEFAULT_PORT[$scheme]}
    if [[ $address =~ ^\[(.*)\](:([0-9]+))?$ ]]; then
      host=${BASH_REMATCH[1]} port=${BASH_REMATCH[3]:-$port}
    elif [[ $address == *:* ]]; then
      host=${address%:*} port=${address##*:}
    fi
    if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((port == 0 || port > 65535)); then
      fail "$variable has no valid port in '$address'; $hint"
    fi
    # shellcheck disable=SC2016 # expanded by the inner shell
    if problem=$(timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>&1); then
      if [[ $scheme == redis ]]; then
        local user=${userinfo%%:*} password=
        [[ $userinfo == *:* ]] && password=${userinfo#*:}
        problem=$(check_redis_login "$host" "$port" "$(percent_decode "$user")" "$(percent_decode "$password")") ||
          fail "$variable: the Redis at $host:$port refuses: $problem; $hint"
      fi
      return
    fi
  done
  problem=$(grep -oE 'Connection refused|Name or service not known|Temporary failure in name resolution|No route to host|Network is unreachable' <<<"$problem" | head -1 || true)
  fail "$variable: no $title at $hosts (${problem:-no answer within 3 s}). Start it, or $hint"
}

check_given_all() {
  local name
  for name in "${SERVERS[@]}"; do
    if external "$name"; then check_given "$name"; fi
  done
}

# check_port PORT WHAT VARIABLE
check_port() {
  local port=$1 what=$2 variable=$3 holder advice
  holder=$(ss -Hltnp "sport = :$port")
  [[ -n $holder ]] || return 0
  advice="Stop it"
  [[ -n $variable ]] && advice+=", or choose another port: $variable=$((port + 1)) make up"
  if [[ $holder =~ \(\(\"([^\"]+)\",pid=([0-9]+) ]]; then
    holder="${BASH_REMATCH[1]} (pid ${BASH_REMATCH[2]})"
  else
    holder="a process of another user"
  fi
  printf 'error: port %s, needed by %s, is taken by %s. %s.\n' "$port" "$what" "$holder" "$advice" >&2
  return 1
}

# Every taken port in one go, not one per attempt.
check_ports() {
  local name taken=0
  # shellcheck disable=SC2153 # PORT is lib.sh's
  for name in $(managed); do
    case $name in
      nginx) check_port "${PORT[nginx]}" nginx EDGE_PORT || taken=1 ;;
      gateway-[12])
        check_port "${PORT[$name]}" "$name" "GATEWAY_${name##*-}_PORT" || taken=1
        check_port "${ADMIN_PORT[$name]}" "$name's admin listener" "GATEWAY_${name##*-}_ADMIN_PORT" || taken=1
        ;;
      redis) check_port "${PORT[redis]}" redis REDIS_PORT || taken=1 ;;
      mongod) check_port "${PORT[mongod]}" mongod MONGOD_PORT || taken=1 ;;
      rabbitmq)
        check_port "${PORT[rabbitmq]}" rabbitmq RABBITMQ_PORT || taken=1
        check_port "$RABBITMQ_MANAGEMENT_PORT" "rabbitmq's management" RABBITMQ_MANAGEMENT_PORT || taken=1
        check_port "$RABBITMQ_DIST_PORT" "rabbitmq's Erlang node" RABBITMQ_DIST_PORT || taken=1
        check_port "$EPMD_PORT" "rabbitmq's epmd" EPMD_PORT || taken=1
        ;;
      *) check_port "${PORT[$name]}" "$name" "" || taken=1 ;;
    esac
  done
  ((taken == 0)) || exit 1
}
