# shellcheck shell=bash
# Asks the supervisor and the processes: running? ready? why not? Sourced after lib.sh and settings.sh.

# Everything this stack starts carries this in its environment, so that `make down` can prove that nothing is left.
MARK=SLUICE_STACK=$RUN

supervised() { s6-svok "$SERVICES/$1" 2>/dev/null; }
supervisor_runs() { s6-svscanctl -z "$SERVICES" 2>/dev/null; }
stat_of() { s6-svstat -o "$2" "$SERVICES/$1" 2>/dev/null; }
is_up() { [[ $(stat_of "$1" up) == true ]]; }
pid_of() { stat_of "$1" pid; }

write_service() {
  local name=$1 directory=$SERVICES/$1 log=$RUN/logs/$1
  mkdir -p "$directory/log" "$log"
  printf '#!/usr/bin/env bash\nexec %q %q 2>&1\n' "$NATIVE/run.sh" "$name" >"$directory/run"
  # Ten megabytes at a time, the last five of them kept.
  printf '#!/usr/bin/env bash\nexec s6-log -b -- n5 s10000000 %q\n' "$log" >"$directory/log/run"
  printf '#!/usr/bin/env bash\nexec %q %q\n' "$NATIVE/finish.sh" "$name" >"$directory/finish"
  chmod 700 "$directory/run" "$directory/finish" "$directory/log/run"
  # Longer than any drain. After that time the process is killed.
  printf '40000\n' >"$directory/timeout-kill"
  touch "$directory/down" "$log/current"
  ln -sfn "$name/current" "$RUN/logs/$name.log"
}

start_supervisor() {
  local name
  for name in $(managed); do write_service "$name"; done
  # In a session of its own, so that Ctrl-C in the terminal of `make up` does not reach it; and with none of our files open.
  env "$MARK" setsid s6-svscan "$SERVICES" </dev/null >>"$RUN/logs/supervisor.log" 2>&1 8>&- 9>&- &
  for name in $(managed); do
    wait_until 10 supervised "$name" || fail "the supervisor did not start: $(tail -1 "$RUN/logs/supervisor.log"). Log: $RUN/logs/supervisor.log"
  done
}

declare -A LOG_START=()
start() {
  s6-svdt-clear "$SERVICES/$1"
  is_up "$1" && return
  LOG_START[$1]=$(stat -c %s "$RUN/logs/$1/current" 2>/dev/null || printf 0)
  rm -f "$SERVICES/$1/down"
  s6-svc -u "$SERVICES/$1"
}

# stop NAME…: all at once, each given its time to drain
stop() {
  local name running=()
  for name in "$@"; do
    supervised "$name" || continue
    touch "$SERVICES/$name/down"
    s6-svc -d "$SERVICES/$name"
    running+=("$SERVICES/$name")
  done
  ((${#running[@]} == 0)) || s6-svwait -D -t 60000 "${running[@]}" || true
}

# wait_until SECONDS COMMAND…
wait_until() {
  local until=$(($(now_ms) + $1 * 1000))
  shift
  until "$@"; do
    (($(now_ms) < until)) || return 1
    sleep 0.1
  done
}

connects() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }
answers() { curl --silent --fail --max-time 2 --output /dev/null "$1"; }

is_ready() {
  case $1 in
    redis) [[ $(REDISCLI_AUTH=$(<"$RUN/secrets/redis_password") redis-cli -h 127.0.0.1 -p "${PORT[redis]}" ping 2>/dev/null) == PONG ]] ;;
    rabbitmq) connects 127.0.0.1 "${PORT[rabbitmq]}" && connects 127.0.0.1 "$RABBITMQ_MANAGEMENT_PORT" ;;
    mongod) connects 127.0.0.1 "${PORT[mongod]}" ;;
    gateway-*) answers "http://127.0.0.1:${ADMIN_PORT[$1]}/readyz" ;;
    nginx) answers "$(url nginx)/.well-known/jwks.json" ;;
    *) answers "$(url "$1")/readyz" ;;
  esac
}

# cause_of NAME: the line of its log, since `start`, that says most about why it failed
cause_of() {
  local log=$RUN/logs/$1/current said line
  said=$(tail -c "+$((${LOG_START[$1]:-0} + 1))" "$log" | tail -c 100000 | tr -d '\0' | grep -v '^[[:space:]]*$' || true)
  case $1 in
    mongod)
      line=$(grep -m1 -E '"s":"[FE]"' <<<"$said" | sed -E 's/.*"msg":"([^"]*)"(.*"(error|errmsg|message)":"([^"]*)")?.*/\1 \4/' || true)
      ;;
    rabbitmq) line=$(grep -m1 -E '\[error\] <[0-9.]+> .' <<<"$said" | sed -E 's/.*\[error\] <[0-9.]+> //' || true) ;;
    redis) line=$(tail -1 <<<"$said") ;;
    *) line=$(grep -iE 'error|fatal|emerg|panic|fail|denied|in use|invalid|cannot|unreachable|refused' <<<"$said" | tail -1 || true) ;;
  esac
  [[ -n $line ]] || line=$(tail -1 <<<"$said")
  line=${line:-it said nothing}
  printf '%s' "${line:0:400}"
}

has_died() { [[ -n $(s6-svdt "$SERVICES/$1" 2>/dev/null) ]]; }

# wait_ready SECONDS NAME…: a line for each as it becomes ready, or the reason why one does not
wait_ready() {
  local begin name seconds=$1 waiting
  begin=$(now_ms)
  shift
  while (($# > 0)); do
    waiting=()
    for name in "$@"; do
      if is_ready "$name"; then
        step "${STARTED:-$begin}" "$name" "ready, pid $(pid_of "$name")"
      elif has_died "$name"; then
        fail "$name died at start: $(cause_of "$name") (log: $RUN/logs/$name.log)"
      elif (($(now_ms) > begin + seconds * 1000)); then
        fail "$name is not ready after $seconds s: $(cause_of "$name") (log: $RUN/logs/$name.log)"
      else
        waiting+=("$name")
      fi
    done
    set -- "${waiting[@]}"
    (($# == 0)) || sleep 0.1
  done
}

# carries PID VARIABLE=VALUE: in its environment
carries() { tr '\0' '\n' <"/proc/$1/environ" | grep -qxF "$2"; } 2>/dev/null

# is_nginx PID: of this stack. nginx overwrites its environment with its title.
is_nginx() { grep -qsaF -- "nginx: master process nginx -e stderr -p $RUN/nginx/" "/proc/$1/cmdline"; }

# is_service PID NAME: a process id alone proves nothing, because it may belong to another process by now.
is_service() { carries "$1" "SLUICE_SERVICE=$RUN/$2" || { [[ $2 == nginx ]] && is_nginx "$1"; }; }

# ours → ids of all processes that carry the mark
ours() {
  local directory pid
  for directory in /proc/[0-9]*; do
    pid=${directory#/proc/}
    if carries "$pid" "$MARK" || is_nginx "$pid"; then printf '%s\n' "$pid"; fi
  done
}
