# Everything a contributor runs. `make` alone lists the targets; `make test` is
# exactly what CI runs. Only Go, git, make and bash are needed, and for all tests
# tar, curl, for the race detector a C compiler, and for Apache Kafka Java and
# Maven: the other tools are Go tools pinned in internal/tools/go.mod and built on
# first use.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A go.work somewhere above must not change what is built here.
export GOWORK := off
# The binary that ships is static, so that is also what is tested; only the
# race detector needs C.
export CGO_ENABLED ?= 0

GO    ?= go
TOOL  := $(GO) tool -modfile=internal/tools/go.mod
BUF   := $(TOOL) buf
LINT  := $(TOOL) golangci-lint

# Tags: invariants turns a broken assertion from an error into a panic.
TAGS ?= invariants
# What to test; `make race PKG=./ingest` narrows it.
PKG ?= ./...
# Passed through to go test, as in `make race ARGS='-run TestWatch -count=100'`.
ARGS ?=

# Generated code and nothing else has these names in these directories.
GENERATED := events/eventspb connectapi/gen sdk/replica/storepb

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/dalvdb, one static binary
# The version comes from git through the build information that Go itself
# stamps. VERSION=v1.2.3 overrides it where there is no git, as in an image.
	$(GO) build -trimpath -ldflags '-s -w $(if $(VERSION),-X main.version=$(VERSION))' -o bin/dalvdb ./cmd/dalvdb

.PHONY: test
test: ## Run everything that CI runs
	@bash .ci/run

.PHONY: quick
quick: ## Run the tests alone, long ones shortened
	$(GO) test -short -tags '$(TAGS)' $(ARGS) $(PKG)

.PHONY: race
race: ## Run the tests under the race detector, long ones shortened
	CGO_ENABLED=1 $(GO) test -race -short -tags '$(TAGS)' -timeout 15m $(ARGS) $(PKG)

.PHONY: full
full: ## Run the tests alone, at full length, on what ships
# Without the tag an assertion is an error: what production does. Pebble knows
# the tag too, and in a build without C it then never gives back the memtables of
# a store that was closed, which thousands of histories would not survive.
	$(GO) test -timeout 20m $(ARGS) $(PKG)

ROUNDS ?= 20
.PHONY: chaos
chaos: ## Kill brokers and nodes on real Apache Kafka under load, ROUNDS times (20)
	PROCESS_ROUNDS='$(ROUNDS)' $(GO) test -run '^TestChaos$$' -count=1 -timeout 2h -v $(ARGS) ./internal/process

FUZZTIME ?= 3s
.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME (3s each)
	@FUZZTIME='$(FUZZTIME)' TAGS='$(TAGS)' bash .ci/fuzz

N ?= 500000
SEED ?= 1
.PHONY: replica-histories
replica-histories: ## Run N random histories of whole systems of devices (500000, from SEED)
	$(GO) test -run '^TestReplicaHistories$$' -count=1 -timeout 24h -v $(ARGS) ./internal/simulation -histories=$(N) -histories.seed=$(SEED)

.PHONY: histories
histories: ## Compare N random histories with the naive model (500000, from SEED)
	$(GO) test -run '^TestHistories$$' -count=1 -timeout 24h -v $(ARGS) ./projector -histories=$(N) -histories.seed=$(SEED)

.PHONY: planted
planted: ## Build in each planted fault and see that a test finds it
	$(GO) test -count=1 -v $(ARGS) ./internal/planted

BENCH ?= .
COUNT ?= 6
.PHONY: bench
bench: ## Run the benchmarks (BENCH=regexp, COUNT=6) and summarise them
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(ARGS) $(PKG) | tee bench.txt
	$(TOOL) benchstat bench.txt

ROUNDS_KAFKA ?= 6
.PHONY: bench-kafka
bench-kafka: ## Measure a node on a real broker, in tables (ROUNDS_KAFKA=6)
	$(GO) test -run '^$$' -bench '^BenchmarkKafka$$' -benchtime '$(ROUNDS_KAFKA)x' -timeout 1h $(ARGS) ./internal/process

.PHONY: bench-once
bench-once: ## Run each benchmark once, so that it cannot rot
	@dirs=$$(git grep --untracked -l '^func Benchmark' -- '*_test.go' | xargs -r -n1 dirname | sort -u | sed 's,^,./,'); \
	if [ -z "$$dirs" ]; then echo 'no benchmarks'; exit 0; fi; \
	$(GO) test -short -tags '$(TAGS)' -run '^$$' -bench . -benchtime 1x -timeout 10m $$dirs

.PHONY: cover
cover: ## Measure test coverage into cover.html
	$(GO) test -short -tags '$(TAGS)' -coverpkg ./... -coverprofile cover.out $(PKG)
	$(GO) tool cover -html cover.out -o cover.html
	@$(GO) tool cover -func cover.out | tail -1

.PHONY: generate
generate: ## Generate code from the .proto files
# What a deleted .proto once generated goes too.
	@find $(GENERATED) \( -name '*.pb.go' -o -name '*.connect.go' \) -delete 2>/dev/null || true
	$(BUF) generate

.PHONY: generate-check
generate-check: ## Fail if generated code is not what make generate writes
	@BUF='$(BUF)' bash .ci/generate-check $(GENERATED)

.PHONY: lint
lint: ## Check schemas and code for style and common faults
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(LINT) run

.PHONY: breaking
breaking: ## Compare the schemas with the last release or the baseline (or AGAINST=ref)
	@BUF='$(BUF)' bash .ci/breaking $(AGAINST)

.PHONY: schema-baseline
schema-baseline: ## Record the schemas as what must not be broken before a release
	@rm -rf .ci/schema-baseline && mkdir .ci/schema-baseline
	@tar -c buf.yaml $$($(BUF) config ls-modules) | tar -x -C .ci/schema-baseline

.PHONY: vet
vet: ## Compile and vet everything, without tags and under all of ours
# Planted bugs are found by their names, so that none stops compiling unseen.
	$(GO) vet ./...
	@planted=$$(git grep --untracked -hoE '^//go:build planted[a-z_]*' -- '*.go' | awk '{print $$2}' | sort -u | tr '\n' ' '); \
	(set -x; $(GO) vet -tags "invariants $$planted" ./...)

.PHONY: fmt
fmt: ## Format code and schemas
	$(BUF) format --write
	$(LINT) fmt

.PHONY: tidy
tidy: ## Tidy go.mod and the tools' go.mod
	$(GO) mod tidy
	cd internal/tools && $(GO) mod tidy

.PHONY: vuln
vuln: ## Look for known vulnerabilities (asks vuln.go.dev)
# Not in CI: it needs a service beyond the module proxy, and its answer changes
# without a change here.
	$(TOOL) govulncheck ./...

BROKERS ?= 1
PORT ?= 9092
DIR ?= bin/kafka/data-$(BROKERS)
.PHONY: kafka
kafka: ## Run Apache Kafka without containers (BROKERS=1 or 3, PORT=9092, DIR=bin/kafka/data-1)
	@$(GO) build -o bin/kafka/run ./deploy/kafka
	@exec bin/kafka/run -brokers '$(BROKERS)' -port '$(PORT)' -dir '$(DIR)'

.PHONY: kafka-tests
kafka-tests: ## Run on a real broker what else runs on fake ones: the suites of kafkalog and pubsub, and a component
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(GO) run ./deploy/kafka -port 0 -dir "$$dir" -- sh -c '\
		$(GO) test -count=1 -timeout 10m ./events/pubsub && \
		$(GO) test -count=1 -timeout 10m -run "^(TestRecommendations|TestFeedsAreTheSame|TestAwayForLongerThanTheRetention)$$" ./sdk/backend/pubsub && \
		$(GO) test -count=1 -timeout 10m -run "^TestLogOnRealBrokers$$" ./events/kafkalog -rapid.checks=5'

.PHONY: kafka-server
kafka-server: ## Fetch the Apache Kafka server, for which make kafka and tests otherwise wait
	@$(GO) run ./deploy/kafka -fetch

.PHONY: clean
clean: ## Remove what was built and measured
	rm -rf bin cover.out cover.html bench.txt
