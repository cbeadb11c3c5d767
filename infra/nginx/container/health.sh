#!/usr/bin/env bash
# Does nginx answer?
set -euo pipefail
exec 3<>/dev/tcp/127.0.0.1/8081
printf 'GET / HTTP/1.0\r\n\r\n' >&3
IFS= read -r -t 2 line <&3
[[ $line == HTTP/1.?' 204 '* ]]
