#!/usr/bin/env bash
# Becomes one process of the stack. Called by its supervisor only: run.sh NAME
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$NATIVE/settings.sh"
source "$NATIVE/services.sh"
name=$1

# A predecessor whose supervisor was killed still holds the port and the data, so it is stopped first.
pid_file=$RUN/pids/$name.pid
if old=$(cat "$pid_file" 2>/dev/null) && [[ -n $old && $old != "$$" ]] && is_service "$old" "$name"; then
  kill -KILL -- "-$old" 2>/dev/null || true
  group_is_gone() { ! kill -0 -- "-$old" 2>/dev/null; }
  wait_until 10 group_is_gone || fail "an earlier $name, process group $old, does not end"
fi
if ! { printf '%s\n' "$$" >"$pid_file.new" && mv "$pid_file.new" "$pid_file"; }; then
  # finish.sh trusts this file, and a process id from before a reboot may belong to any process.
  rm -f "$pid_file"
  fail "cannot write $pid_file"
fi
load_settings

# Each process gets only the secrets that it needs, and none on its command line, which others can read.
for variable in $(compgen -e); do
  case $variable in PATH | TZ | SLUICE_STACK) ;; *) export -n "${variable?}" ;; esac
done
export PATH LANG=C.UTF-8 HOME=$RUN SLUICE_SERVICE=$RUN/$name
# Unset, each program has its own default.
if [[ -n $LOG ]]; then export LOG; fi
program=$RUN/bin/${name%-[12]}
address=127.0.0.1:${PORT[$name]}

case $name in
  redis) exec redis-server "$RUN/redis/redis.conf" ;;
  rabbitmq)
    export HOME=$RUN/rabbitmq
    export RABBITMQ_NODENAME=sluice@localhost RABBITMQ_DIST_PORT ERL_EPMD_PORT=$EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
    export RABBITMQ_MNESIA_BASE=$RUN/rabbitmq/data RABBITMQ_LOG_BASE=$RUN/rabbitmq RABBITMQ_LOGS=-
    export RABBITMQ_CONFIG_FILE=$RUN/rabbitmq/rabbitmq.conf RABBITMQ_CONF_ENV_FILE=/dev/null
    export RABBITMQ_ENABLED_PLUGINS_FILE=$ROOT/infra/rabbitmq/enabled_plugins RABBITMQ_PID_FILE=$RUN/rabbitmq/pid
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
    # Debian's wrapper always changes the user; the script behind it does not. Under "systemd" that script becomes the Erlang VM
    # itself, so the process id stays the same and signals reach it.
    export RUNNING_UNDER_SYSTEMD=true
    server=/usr/lib/rabbitmq/bin/rabbitmq-server
    [[ -x $server ]] || server=rabbitmq-server
    exec "$server"
    ;;
  mongod)
    exec "$(find_mongod)" --config "$ROOT/infra/mongo/mongod.conf" --bind_ip 127.0.0.1 --port "${PORT[mongod]}" --dbpath "$RUN/mongod"
    ;;
  user-worker-*)
    export LISTEN=$address MONGODB_URI AMQP_URL GATEWAY_SIGNING_KEYS TOKEN_SIGNING_KEYS
    exec "$program"
    ;;
  task-worker-* | notification-worker-*)
    export LISTEN=$address MONGODB_URI AMQP_URL GATEWAY_SIGNING_KEYS
    exec "$program"
    ;;
  gateway-*)
    export GATEWAY_LISTEN=$address GATEWAY_ADMIN=127.0.0.1:${ADMIN_PORT[$name]} REDIS_URL GATEWAY_SIGNING_KEYS
    exec "$program" --config "$GATEWAY_CONFIG"
    ;;
  nginx) exec nginx -e stderr -p "$RUN/nginx/" -c "$RUN/nginx/nginx.conf" ;;
  *) fail "no process is called '$name'" ;;
esac
