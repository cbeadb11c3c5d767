# One command per target; the work is in infra/native, and in infra/docker for containers.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run up down status logs restart clean build check test demo load drill redrive prove-events prove-limits prove-outage compose-up compose-down compose-logs compose-clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 15

run: ## the whole platform in one process, no servers, ready when it says so: make run LISTEN= DATA_DIR= RATE= BURST= ARGS=
	@infra/native/standalone.sh

up: ## the whole stack on this machine, real servers, supervised; ready when it returns
	@infra/native/up.sh

down: ## stops all of it; data stays
	@infra/native/down.sh

status: ## one table of what runs
	@infra/native/status.sh

logs: ## follows all logs, or one: make logs NAME=gateway-1
	@infra/native/logs.sh $(NAME)

restart: ## restarts one process gracefully: make restart NAME=gateway-1
	@infra/native/restart.sh $(NAME)

clean: ## stops it and deletes all its data (.run)
	@infra/native/clean.sh

build: ## the release binaries
	@infra/native/build.sh

demo: ## the whole story over HTTP, against whatever runs
	@infra/native/demo.sh

load: ## the load test with oha, every answer verified: make load URL= DURATION= CONNECTIONS= USERS= MIX= SCENARIO=
	@infra/native/load.sh

drill: ## kill -9 of every process of the running stack: all come back, and the demo passes after each
	@infra/native/drill.sh

prove-events: ## shows that no event is lost or doubled, through every kind of fault: make prove-events OPERATIONS= FAULTS= CLIENTS= SEED= OUT=
	@infra/native/prove-events.sh

prove-limits: ## shows that no window of time holds more than its limit, whatever Redis does: make prove-limits SECONDS_EACH= OUTAGE= KEYS= OUT= SVG=
	@infra/native/prove-limits.sh

prove-outage: ## kills RabbitMQ under load for a while: what piles up, and how fast it drains: make prove-outage OUTAGE= RATE= PENDING= OUT=
	@infra/native/prove-outage.sh

redrive: ## brings dead letters back to the queues they came from: make redrive ARGS="--dry-run --limit 10"
	@infra/native/redrive.sh $(ARGS)

check: ## format, lints, licences and advisories, unused dependencies
	@infra/native/check.sh

test: ## every test, with what it needs
	@infra/native/test.sh

compose-up: ## the whole stack in containers, healthy when it returns: make compose-up GATEWAYS= WORKERS= EDGE_PORT=
	@infra/docker/up.sh

compose-down: ## stops and removes the containers; data stays
	@infra/docker/down.sh

compose-logs: ## follows their logs, or those of one service: make compose-logs NAME=gateway
	@infra/docker/logs.sh $(NAME)

compose-clean: ## deletes them with all their data, images and keys
	@infra/docker/clean.sh
