#!/usr/bin/env bash
# Adds to redis.conf what only the container knows, and becomes Redis. The password stays in files.
set -euo pipefail
umask 077
{
  printf 'include /etc/sluice/redis.conf\nbind 0.0.0.0\nport 6379\ndir /data\n'
  printf 'requirepass %s\n' "$(</run/secrets/redis_password)"
} >/run/redis/redis.conf
exec redis-server /run/redis/redis.conf
