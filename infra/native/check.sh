#!/usr/bin/env bash
# `make check`: format, lints, shell scripts, licences, bans, sources, advisories, unused dependencies. Runs all of them, then says which failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_cargo
"$NATIVE/install.sh" lint
cd "$ROOT"
umask 022
export PATH=$TOOLS/bin:$PATH

# tool NAME VERSION: exactly this version, built once into .tools
tool() {
  if [[ $("$TOOLS/bin/$1" --version 2>/dev/null) == *" $2" || $("$TOOLS/bin/$1" --version 2>/dev/null) == "$2" ]]; then return; fi
  local begin
  begin=$(now_ms)
  mkdir -p "$TOOLS"
  cargo install --quiet --locked --debug --root "$TOOLS" "$1@$2" >"$TOOLS/$1.log" 2>&1 ||
    fail "$1 $2 could not be installed: $(grep -m1 -E '^error' "$TOOLS/$1.log") (log: $TOOLS/$1.log)"
  step "$begin" "$1 $2" installed
}

# The status of a check that could not be made here.
COULD_NOT=75
passed=()
failed=()
unchecked=()
run() {
  local begin what=$1
  begin=$(now_ms)
  shift
  local status=0
  "$@" || status=$?
  case $status in
    0)
      passed+=("$what")
      step "$begin" "$what" passed
      ;;
    "$COULD_NOT")
      unchecked+=("$what")
      step "$begin" "$what" "NOT CHECKED"
      ;;
    *)
      failed+=("$what")
      step "$begin" "$what" FAILED
      ;;
  esac
}

# The advisory database comes from the network, which is not available everywhere. If it cannot be fetched, the result says so.
advisories() {
  local output
  if output=$(timeout 60 cargo-deny --all-features fetch db 2>&1); then
    cargo-deny --all-features check --disable-fetch --hide-inclusion-graph advisories
  else
    warn "advisories were NOT checked: the database could not be fetched ($(grep -E 'fatal|error' <<<"$output" | tail -1 | cut -c1-160))"
    return "$COULD_NOT"
  fi
}

shell_scripts() { shellcheck -x -P SCRIPTDIR infra/native/*.sh infra/docker/*.sh infra/*/container/*.sh .ci/run; }

tool cargo-machete 0.9.2
tool cargo-deny 0.20.2
run format cargo fmt --all --check
run "shell scripts" shell_scripts
run lints cargo clippy --quiet --workspace --all-targets --features standalone/servers --locked -- -D warnings
# Without the servers' features, which all of the workspace together always has.
run "lints, on files alone" cargo clippy --quiet -p standalone --all-targets --locked -- -D warnings
run "licences, bans, sources" cargo-deny --all-features --locked check --hide-inclusion-graph licenses bans sources
run advisories advisories
run "unused dependencies" cargo-machete

printf 'Checks: %d passed, %d failed, %d not made.\n' ${#passed[@]} ${#failed[@]} ${#unchecked[@]}
((${#unchecked[@]} == 0)) || warn "not made: $(IFS=,; printf '%s' "${unchecked[*]}")"
((${#failed[@]} == 0)) || fail "make check failed: $(IFS=,; printf '%s' "${failed[*]}")"
