#!/usr/bin/env bash
# Does RabbitMQ answer? Once started it listens for clients, and its management page shows that it works. (A client that disconnects
# after an AMQP greeting would cause a warning in the log, and rabbitmq-diagnostics takes a second.)
set -euo pipefail
exec 3<>/dev/tcp/127.0.0.1/5672 4<>/dev/tcp/127.0.0.1/15672
printf 'GET / HTTP/1.0\r\n\r\n' >&4
IFS= read -r -t 2 line <&4
[[ $line == HTTP/1.?' 200 '* ]]
