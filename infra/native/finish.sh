#!/usr/bin/env bash
# Cleans up after a process that ended, and restarts it at once. Called by its supervisor only, in the service's folder: finish.sh NAME
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pid_file=$RUN/pids/$1.pid

# A killed nginx leaves its worker processes behind, and they would keep the port: the whole process group is killed.
kill -KILL -- "-$(<"$pid_file")" 2>/dev/null || true

# s6-supervise waits for a second before it restarts anything by itself, but starts at once when asked. So it is asked as soon as this
# script has ended. A process that lived for less than a second waits 0.8 s, so that a crash loop stays slow.
if [[ ! -e down ]]; then
  lived=$(($(date +%s%3N) - $(date -r "$pid_file" +%s%3N)))
  (
    while kill -0 $$ 2>/dev/null; do sleep 0.02; done
    sleep "$( ((lived < 1000)) && printf 0.8 || printf 0.02)"
    [[ -e down ]] || exec s6-svc -u .
  ) </dev/null >/dev/null 2>&1 &
fi
