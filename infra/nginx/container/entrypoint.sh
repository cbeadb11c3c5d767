#!/usr/bin/env bash
# Runs nginx, and keeps its list of gateways up to date: the name `gateway` is resolved every second, as containers come and go.
# (nginx resolves names in its own configuration only once; `resolve` is not in every version.) Ends when nginx ends, so that the
# container's restart policy supervises both.
set -euo pipefail
umask 077

run=/run/nginx
export TMPDIR=$run
# Running requests get two seconds. Streams are cut, and their clients resume.
patience=2

mkdir -p "$run/tmp"
cp /etc/sluice/nginx/*.conf "$run/"
files=$(ulimit -n)
printf 'events { worker_connections %d; }\n' $((files < 33000 ? files - 200 : 32768)) >"$run/events.conf"

addresses() { timeout 2 getent ahostsv4 gateway | awk '{ print $1 }' | sort -u; }

# write_upstream ADDRESS…: without an address it writes a server marked as down, because nginx requires one.
write_upstream() {
  local address
  {
    for address in "$@"; do printf 'server %s:8001 max_fails=1 fail_timeout=1s;\n' "$address"; done
    # Each gateway again, as a backup that is never marked as failed. If one gateway was just restarted and the next one stops, nginx
    # would otherwise skip both.
    for address in "$@"; do printf 'server %s:8001 backup max_fails=0;\n' "$address"; done
    (($# > 0)) || printf 'server 127.0.0.1:8001 down;\n'
  } >"$run/upstream.conf.new"
  mv "$run/upstream.conf.new" "$run/upstream.conf"
}

current=$(addresses || true)
# shellcheck disable=SC2086 # one word per address
write_upstream $current
nginx -e stderr -p "$run/" -c "$run/nginx.conf" &
nginx=$!

stopping=false
# shellcheck disable=SC2317 # called by the trap
stop() {
  $stopping && return
  stopping=true
  kill -QUIT "$nginx" 2>/dev/null || true
  (sleep "$patience" && kill -TERM "$nginx" 2>/dev/null) &
}
trap stop TERM QUIT INT

# A change must be seen twice: a restarted container is away for less time than that, and keeps its address.
seen=$current
while ! $stopping && kill -0 "$nginx" 2>/dev/null; do
  sleep 1 &
  wait "$!" || true
  $stopping && break
  now=$(addresses || true)
  if [[ -n $now && $now != "$current" && $now == "$seen" ]]; then
    # shellcheck disable=SC2086
    write_upstream $now
    kill -HUP "$nginx"
    printf 'gateways: %s\n' "${now//$'\n'/ }" >&2
    current=$now
  fi
  seen=$now
done

# A signal interrupts `wait`.
while :; do
  status=0
  wait "$nginx" || status=$?
  kill -0 "$nginx" 2>/dev/null || break
done
$stopping && exit 0
printf 'nginx ended with %s\n' "$status" >&2
exit 1
