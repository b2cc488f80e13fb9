# Everything from a checkout with one command each; `make` lists them.

CARGO ?= cargo
# Flags for the sensor, for example: make run ARGS='-i eth0'
ARGS ?=
# Which target make fuzz runs.
FUZZ ?= decode
# Arguments for cargo test, for example: make test TESTS='--test live'
TESTS ?=

export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.DEFAULT_GOAL := help
.PHONY: help setup build run demo test bench fleet scoreboard torture fuzz lint fmt ci image clean

help: ## lists these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## installs what building needs and is missing
	@scripts/setup.sh

build: setup ## builds the optimised binary
	$(CARGO) build --release --locked

run: build ## builds, and starts the sensor on the interface of the default route (ARGS='...' are its flags)
	@scripts/run.sh $(ARGS)

demo: ## attacks a small shop in network namespaces, beside a sensor, and says where the page is (ARGS='address:port' for another); without root it plays a trace
	@scripts/setup.sh
	$(CARGO) build --quiet --locked --bin halfopen --example demo
	@scripts/demo.sh $(ARGS)

test: ## installs what the tests need, and runs them all; those that need root say when they are skipped
	@scripts/setup.sh --tests
	$(CARGO) test --locked $(TESTS)

bench: ## measures throughput and memory, as Markdown tables
	@scripts/setup.sh --tests
	$(CARGO) bench --locked --bench throughput
	$(CARGO) bench --locked --bench looks

fleet: ## what many sensors cost a Prometheus, reckoned for 1 to 1,000 and measured with ten (docs/fleet.md), in a minute and a half
	@scripts/setup.sh --tests
	$(CARGO) build --quiet --locked --bin halfopen --example generate
	target/debug/examples/generate scenario examples/fleet.toml target/fleet.pcap
	target/debug/halfopen replay --metrics target/fleet.prom --log.level error target/fleet.pcap >/dev/null
	scripts/fleet-cost.py --measure target/fleet.prom

scoreboard: ## runs every scenario of tests/scenarios and prints what was found, how soon, and what was not
	@scripts/setup.sh
	$(CARGO) test --release --locked --test scoreboard -- --all

torture: ## overload at full size: ten million packets of each kind of noise, and millions of inputs for the fuzz bodies
	@scripts/setup.sh
	HALFOPEN_TORTURE=10000000 $(CARGO) test --release --locked --test torture -- --nocapture
	HALFOPEN_FUZZ=1000000 $(CARGO) test --release --locked --test fuzz -- --nocapture

fuzz: ## looks for inputs that break something, with cargo-fuzz and a nightly toolchain (FUZZ=decode, pipeline, config, web_config, state)
	cd fuzz && $(CARGO) +nightly fuzz run $(FUZZ) -- -max_total_time=1800

lint: ## what the continuous integration objects to
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

fmt: ## formats the code
	$(CARGO) fmt

ci: ## what the continuous integration runs
	CI=true .ci/run

image: ## builds the container image
	docker build -t halfopen .

clean: ## deletes what was built
	$(CARGO) clean
