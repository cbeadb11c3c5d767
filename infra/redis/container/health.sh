#!/usr/bin/env bash
# Does Redis answer? The password goes through standard input: neither the command line nor the environment shows it.
set -euo pipefail
printf 'AUTH %s\nPING\n' "$(</run/secrets/redis_password)" | timeout 2 redis-cli | grep -qx PONG
