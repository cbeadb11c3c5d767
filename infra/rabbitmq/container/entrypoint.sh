#!/usr/bin/env bash
# Adds to rabbitmq.conf what only the container knows, and becomes RabbitMQ. The user is a definition, which RabbitMQ reads at every
# start, so a changed password in the secret's file applies from the next start. The password stays in files.
set -euo pipefail
umask 077
cat /etc/sluice/rabbitmq.conf /etc/sluice/container.conf >"$RABBITMQ_CONFIG_FILE"
printf '{
  "users": [{"name": "sluice", "password": "%s", "tags": "administrator"}],
  "vhosts": [{"name": "/"}],
  "permissions": [{"user": "sluice", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]
}\n' "$(</run/secrets/rabbitmq_password)" >/run/rabbitmq/definitions.json
# Under "systemd" the script becomes the Erlang machine itself, so that signals reach it.
export RUNNING_UNDER_SYSTEMD=true
exec rabbitmq-server
