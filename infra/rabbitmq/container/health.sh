#!/usr/bin/env bash
# Does RabbitMQ answer? It listens for clients when it has started, and its management page proves that it works. (The page
# and not a greeting in AMQP: a client that leaves after that is a warning in the log. rabbitmq-diagnostics costs a second.)
set -euo pipefail
exec 3<>/dev/tcp/127.0.0.1/5672 4<>/dev/tcp/127.0.0.1/15672
printf 'GET / HTTP/1.0\r\n\r\n' >&4
IFS= read -r -t 2 line <&4
[[ $line == HTTP/1.?' 200 '* ]]
