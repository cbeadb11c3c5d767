#!/usr/bin/env bash
# Does mongod answer {hello: 1}? The script speaks MongoDB's protocol itself, because not every image has a MongoDB shell. It does
# not check for a primary: mongod becomes the primary only after it was found healthy.
set -euo pipefail
exec 3<>/dev/tcp/127.0.0.1/27017
# OP_MSG: length 52, request 1, response to 0, opcode 2013; no flags, one body: {hello: 1, $db: "admin"}
# shellcheck disable=SC2016 # $db is the field's name
printf '\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0' >&3
(($(timeout 2 head -c 64 <&3 | wc -c) == 64))
