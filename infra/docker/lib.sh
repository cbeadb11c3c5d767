# shellcheck shell=bash
# shellcheck disable=SC2034,SC2178 # its variables are used by those who source it; GATEWAYS and WORKERS are other things in native
# What the scripts of `make compose-…` share: paths, the engine, the settings. Sourced, never run.

# Under `make up` these two are lists of names; here they are numbers, which the environment may give.
asked_gateways=${GATEWAYS:-} asked_workers=${WORKERS:-}
source "$(dirname "${BASH_SOURCE[0]}")/../native/lib.sh"
unset GATEWAYS WORKERS
GATEWAYS=$asked_gateways WORKERS=$asked_workers

SLUICE_RUN_DIR=$RUN
DOCKER=$ROOT/infra/docker
RUN=$RUN/compose
CHOSEN=$RUN/compose.env
export SLUICE_RUN_DIR DOCKER_BUILDKIT=1
cd "$ROOT"

# The stack's name is that of its containers, volumes and images.
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-sluice}

# at_least WANTED VERSION
at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -1) == "$1" ]]; }

need_engine() {
  have docker || fail "docker is missing: install Docker Engine 20.10 or later with Compose 2.20 or later (https://docs.docker.com/engine/install/). Without containers: make up"
  local version
  version=$(docker compose version --short 2>/dev/null) ||
    fail "docker compose is missing: install the Compose plugin, 2.20 or later (https://docs.docker.com/compose/install/)"
  version=${version#v}
  at_least 2.20 "$version" || fail "Compose $version is too old: 2.20 or later is needed"
  version=$(docker version --format '{{.Server.Version}}' 2>&1) || fail "the Docker engine does not answer: $(tail -1 <<<"$version")"
  at_least 20.10 "$version" || fail "Docker Engine $version is too old: 20.10 or later is needed"
}

# compose ARGUMENT…: with the settings of the last `make compose-up`
compose() {
  local files=()
  [[ -r $CHOSEN ]] && files=(--env-file "$CHOSEN")
  docker compose "${files[@]}" "$@"
}

# Ids of this stack's containers, running or not.
containers() { docker ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"; }

one_at_a_time() {
  mkdir -p "$RUN"
  exec 8>"$RUN/lock"
  flock -n 8 || fail "another make compose-… is running in $RUN"
}

# Images that a rebuild left behind. Other images are not ours to delete.
prune_images() { docker image prune --force --filter label=org.opencontainers.image.vendor=Sluice >/dev/null 2>&1 || true; }
