# Everything that is done with this repository. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# A checkout that another user owns must build too.
export GOFLAGS ?= -buildvcs=false

LINT := go tool -modfile=tools/go.mod golangci-lint
FUMPT := go tool -modfile=tools/go.mod gofumpt
BENCHSTAT := go tool -modfile=tools/go.mod benchstat

# Flags of go test, such as TESTFLAGS=-v, and the packages it tests.
TESTFLAGS ?=
PKG ?= ./...

# Packages whose tests are run a second time under the race detector: those
# with goroutines of their own.
RACE ?= ./internal/... ./cmd/...
FUZZTIME ?= 10s

.PHONY: help up build test test-short test-go race vet lint fmt bench bench-full bench-go bench-rooms bench-game bench-broadcast bench-broadcast-full bench-300k bench-plan bench-surge coefficients cluster cluster-down dashboards autoscale deploy-check chaos drills fuzz web web-check generate setup clean

help: ## lists these targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

up: ## runs the whole game; ARGS="--bots 200" and the like go to cairn up
	go run ./cmd/cairn up $(ARGS)

build: ## builds bin/cairn
	CGO_ENABLED=0 go build -trimpath -o bin/cairn ./cmd/cairn

setup: ## installs what the checks need, as root on Debian; says what is missing elsewhere
	@scripts/setup.sh go race browser node postgres redis prometheus shell

test: setup vet lint web-check test-go race ## all checks: what must pass before a commit lands

# The bench of the Broadcast Layer is a module of its own: what its peers need is
# not ours. So is the check of deploy, for the types of Kubernetes; make
# deploy-check has the part of it that starts fleets. -count=1, for Go's cache of
# results does not look at the manifests, which are another module's.
test-go:
	go test $(TESTFLAGS) -timeout 10m $(PKG)
	$(if $(filter ./...,$(PKG)),cd bench/broadcast && go test $(TESTFLAGS) -timeout 10m ./...)
	$(if $(filter ./...,$(PKG)),cd deploy/check && go test -count=1 -short $(TESTFLAGS) -timeout 10m)

test-short: ## the tests that take no more than a moment
	go test -short $(TESTFLAGS) -timeout 5m $(PKG)

# One package at a time: those that start a real Cluster need the machine's time.
race: ## the short tests under the race detector
	CGO_ENABLED=1 go test -race -short -p 1 $(TESTFLAGS) -timeout 15m $(RACE)
	cd bench/broadcast && CGO_ENABLED=1 go test -race -short $(TESTFLAGS) -timeout 5m ./peers

vet:
	go build $(PKG)
	go vet $(PKG)
	$(if $(filter ./...,$(PKG)),cd bench/broadcast && go build -o /dev/null . && go vet ./...)

lint: ## golangci-lint and gofumpt, pinned in tools/go.mod
	$(LINT) run
	cd bench/broadcast && go tool -modfile=../../tools/go.mod golangci-lint run
	cd deploy/check && go tool -modfile=../../tools/go.mod golangci-lint run

fmt: ## formats all Go files
	git ls-files -z '*.go' | xargs -0 $(FUMPT) -w

bench: ## the claim path beside its peers, a short form of all of it, into bench/out/claims.json; under 10 minutes
	@scripts/setup.sh go redis postgres
	go run ./bench/claims short $(ARGS)

bench-full: ## the same with every contender and acknowledgement, into docs/performance.md and docs/plots; ARGS="-rounds 1"
	@scripts/setup.sh go redis postgres
	go run ./bench/claims full $(ARGS)
	go run ./bench/claims report

bench-go: ## every Go benchmark, once; BENCH=pattern for some, COUNT=10 for benchstat
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -count $(or $(COUNT),1) -timeout 60m $(PKG)

bench-rooms: ## the rooms' benchmarks five times, and their medians, into bench/out/rooms.txt
	mkdir -p bench/out
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -benchtime $(or $(BENCHTIME),0.5s) -count $(or $(COUNT),5) -p 1 -timeout 60m ./internal/... | tee bench/out/rooms.bench
	$(BENCHSTAT) bench/out/rooms.bench | tee bench/out/rooms.txt

bench-game: ## the whole game at 2,000 claims/s for a minute, from both sides, into bench/out/game.json
	go run ./bench/game $(ARGS)

bench-broadcast: ## the Broadcast Layer beside its peers, 5,000 connections each, into bench/out/broadcast.json; under 10 minutes
	@scripts/setup.sh go redis rabbitmq
	cd bench/broadcast && go run . short $(ARGS)

bench-broadcast-full: ## the same with 10,000 and 19,000 in one process, and how fast each can go; an hour; ARGS="-rounds 1"
	@scripts/setup.sh go redis rabbitmq
	cd bench/broadcast && go run . full $(ARGS)

bench-300k: ## 300,000 connections on this machine: latency, surge, stalled readers, a cut; ARGS="-connections 20000"
	@scripts/setup.sh go redis
	cd bench/broadcast && go run . huge $(ARGS)

bench-plan: ## measures a small fleet under several loads and compares with cairn plan, into bench/out/plan.json; 3 minutes
	@scripts/setup.sh go postgres redis
	go run ./bench/plan $(ARGS)

bench-surge: ## 4,000 clients at once at a gateway, beside cairn simulate, into bench/out/surge.json
	@scripts/setup.sh go postgres redis
	go run ./bench/plan -surge $(ARGS)

coefficients: ## puts what bench/out has measured into cairn plan, and into docs/capacity.md
	go run ./bench/plan -refresh internal/capacity/coefficients.json

deploy-check: ## everything about deploy/: manifests by the types of Kubernetes, KEDA and Compose, each container's command run; 90 s
	@scripts/setup.sh go postgres redis prometheus
	cd deploy/check && go vet . && go test -count=1 $(TESTFLAGS) -timeout 10m
	cd deploy/check && go tool -modfile=../../tools/go.mod golangci-lint run

dashboards: ## draws each Grafana panel from what Prometheus answers of a fleet under load, into docs/dashboards; ARGS="-for 30s"
	@scripts/setup.sh go postgres redis prometheus
	go run ./bench/dashboards $(ARGS)

autoscale: ## a surge, and a loop that makes a real fleet larger and smaller as KEDA would, into docs/autoscaling.md; 4 minutes; ARGS=-short
	@scripts/setup.sh go postgres redis prometheus
	go run ./bench/autoscale $(ARGS)

chaos: ## breaks a whole fleet under load, five times in each way, into bench/out/chaos.json; ARGS="-rounds 1"
	@scripts/setup.sh go postgres redis
	go run ./bench/chaos $(ARGS)

drills: ## saves, destroys and restores a fleet with the commands of docs/backup.md, in right and wrong orders; 3 minutes
	@scripts/setup.sh go postgres redis
	go run ./bench/drills $(ARGS)

cluster: ## a Redis Cluster, PostgreSQL and all roles on this machine; ARGS="--claims 3" and the like (docs/cluster.md)
	go run ./bench/cluster up $(ARGS)

cluster-down: ## ends all that make cluster started, from anywhere, whatever became of it
	go run ./bench/cluster down $(ARGS)

sim-wide: ## the simulation of the fenced log on Redis: SEEDS=100000 from FIRST=1 on
	go test ./internal/eventlog/redislog -run '^TestSimulation$$' -v -timeout 24h -sim.seeds $(or $(SEEDS),100000) -sim.first $(or $(FIRST),1)

fuzz: ## every fuzz target for FUZZTIME (10s)
	scripts/fuzz.sh $(FUZZTIME)

web: ## builds the page into web/dist
	@scripts/setup.sh node
	cd web && ../scripts/with-node.sh bash -c 'npm ci --no-audit --no-fund && npm run build'

web-check: ## builds the page again and compares it with the committed bundle
	@scripts/setup.sh node
	@scripts/with-node.sh scripts/web-check.sh

generate: ## makes generated files anew: words of the cipher, land of the maps, the page
	@scripts/setup.sh go node words
	cd web && ../scripts/with-node.sh npm ci --no-audit --no-fund
	scripts/with-node.sh go generate ./...
	$(MAKE) web

clean: ## removes what was built; never data
	rm -rf bin coverage.out web/node_modules
	go clean -testcache
