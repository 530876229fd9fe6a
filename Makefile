# Lotline's development commands; `make` alone lists them. They work on every module of go.work.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run verify crash bench test test-fast test-bi dashboard lint generate build

MODULES := $(shell sed -n 's|^[[:space:]]*\./||p' go.work)
PACKAGES := $(MODULES:%=./%/...)
# A module that only a benchmark builds. It is not in the workspace, whose other modules would get its dependencies' versions.
APART := tests/bench/peers/watermill

# Servers and tools come into the user's cache directory, once.
SERVERS := go run ./tests/cmd/servers --postgres --clickhouse --redis
TOOL := go run ./tests/cmd/tools
FETCH := go run ./tests/cmd/fetch

# The wire as the last `make generate` left it, in schemas. What is not compatible with it is refused, by lint and by generate.
WIRE := testdata/published.binpb

# A package's tests may take this long on a busy two-core machine; go stops what hangs.
TEST_TIMEOUT := 15m
# Without Apache Kafka its own tests, named …OnApacheKafka or a subtest kafka, are left out; others that need a Kafka get kfake.
NO_APACHE := -skip 'OnApacheKafka$$|.*/^kafka$$'

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run all of Lotline on this machine (KAFKA=apache: on Apache Kafka instead of kfake)
	@go build -o bin/devstack ./tests/cmd/devstack
	@exec bin/devstack

verify: ## Hold Postgres and ClickHouse of the running `make run` against its events, down to the row
	@endpoints="$${LOTLINE_RUN_DIR:-.run}/endpoints.json"; [ -f "$$endpoints" ] || { echo "There is no $$endpoints: is \`make run\` running?" >&2; exit 1; }; \
	at() { sed -n "s|.*\"$$1\": \"\(.*\)\".*|\1|p" "$$endpoints"; }; \
	LOTLINE_KAFKA_BROKERS="$$(at kafka)" LOTLINE_CLICKHOUSE_ADDRS="$$(at clickhouse_native)" LOTLINE_POSTGRES_URL="$$(at postgres)" go run ./services/cli/cmd/lotline verify

crash: ## Inject faults of every kind into the pipeline, on real servers, and verify what is left (DRILLS="kafka-killed …")
	go run ./tests/cmd/crash drill $(DRILLS)

# CONTRIBUTING.md says how to read them.
BENCH := allocator peers scale readmodels projector rebuild gateway
ROUNDS := 3

# Postgres as OPERATING.md has it for many order lines: a quarter of the memory, checkpoints that come by time, log files used again.
POSTGRES := --postgres-setting=shared_buffers=$(shell awk '/MemTotal/ {print int($$2 / 4096)}' /proc/meminfo)MB \
	--postgres-setting=max_wal_size=16GB --postgres-setting=min_wal_size=8GB --postgres-setting=checkpoint_timeout=30min

bench: ## Measure all side by side, every answer checked (BENCH="allocator peers" only some; ROUNDS=1 quickly)
	BENCH_ROUNDS=$(ROUNDS) BENCH_RESULTS=bin/results $(SERVERS) $(POSTGRES) --kafka --long -- bash -ec 'for bench in $(BENCH); do go run ./tests/bench/$$bench; done'

test: build ## Run all tests on real servers (KAFKA=kfake leaves out Apache Kafka, which needs a JVM, and the clients)
	@python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { \
		echo "The tests on Redis, and of the Python clients, need python3, 3.11 or newer, with venv (Debian: python3-venv)." >&2; exit 1; }
ifeq ($(KAFKA),kfake)
	@echo "KAFKA=kfake: the tests of Apache Kafka itself and of clients in other languages are left out, and kfake stands in for it in others."
	$(FETCH)
	$(SERVERS) --kfake -- go test -tags integration -timeout $(TEST_TIMEOUT) $(NO_APACHE) $(PACKAGES)
else
	@for tool in java javac mvn; do command -v $$tool >/dev/null || { \
		echo "The tests on Apache Kafka need $$tool: install a JDK, 17 or newer, and Maven (Debian: default-jdk-headless maven), or leave them out with KAFKA=kfake." >&2; exit 1; }; done
	$(FETCH) --clients
	$(SERVERS) --kafka -- go test -tags integration -timeout $(TEST_TIMEOUT) $(PACKAGES)
endif

test-bi: ## Hold the Superset dashboard and the dbt example to a live pipeline (1 GB from PyPI; bin/dashboard.png is the picture)
	go test -tags bi -count=1 -v -timeout 30m ./tests/bi

dashboard: ## Zip the Superset dashboard for importing, into bin
	@mkdir -p bin && rm -f bin/lotline-dashboard.zip && cd compose && python3 -m zipfile -c ../bin/lotline-dashboard.zip superset/
	@echo "Import bin/lotline-dashboard.zip in Superset (Dashboards, Import): it asks for the password of lotline_bi."

test-fast: ## Run the tests that need no server
	go test -timeout $(TEST_TIMEOUT) $(PACKAGES)

lint: ## Check the code, the wire's definition and that every go.mod is tidy
	lint="$$($(TOOL) golangci-lint)"; status=0; for module in $(MODULES); do (cd $$module && "$$lint" run --allow-parallel-runners --build-tags integration,bi ./...) || status=1; done; \
	(cd $(APART) && GOWORK=off "$$lint" run --allow-parallel-runners ./...) || status=1; exit $$status
	buf="$$($(TOOL) buf)"; cd schemas && "$$buf" format -d --exit-code && "$$buf" lint && "$$buf" breaking --against $(WIRE)
	@buf="$$($(TOOL) buf)"; cd schemas && "$$buf" build --exclude-source-info -o - | cmp - $(WIRE) || { echo "schemas/proto and schemas/$(WIRE) must be changed together, by \`make generate\`." >&2; exit 1; }
	@for module in $(MODULES) $(APART); do (cd $$module && GOWORK=off go mod tidy -diff); done

generate: ## Generate Go, JSON Schema and AsyncAPI from the .proto files
	buf="$$($(TOOL) buf)"; cd schemas && "$$buf" breaking --against $(WIRE) && "$$buf" generate && "$$buf" build --exclude-source-info -o $(WIRE)
	go run ./tests/cmd/contracts

build: ## Build the programs into bin, and every module on its own
	go build -o bin/ ./services/*/cmd/*
	@for module in $(MODULES); do (cd $$module && GOWORK=off go build ./...); done
	@cd $(APART) && GOWORK=off go build -o /dev/null .
