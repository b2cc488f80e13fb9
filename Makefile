# Everything from a checkout with one command each; `make` lists them.

CARGO ?= cargo
# Flags for the sensor, for example: make run ARGS='-i eth0'
ARGS ?=
# Which targets make fuzz runs, for example: make fuzz FUZZ='decode state'
FUZZ ?=
# How many frames make soak feeds.
SOAK ?= 100000000
# Arguments for cargo test, for example: make test TESTS='--test live'
TESTS ?=

export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.DEFAULT_GOAL := help
.PHONY: help setup build run demo test bench scoreboard torture fuzz soak lint fmt ci release reproducible man deb deb-test image sbom deny clean fleet

help: ## lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

fuzz: ## looks for inputs that break something, half an hour for each target (FUZZ='decode state' for some of them)
	@scripts/setup.sh --fuzz
	scripts/fuzz.sh $(FUZZ)

soak: ## a hundred million frames through a live sensor's pipeline: laws, and memory flat after the first tenth (SOAK=... for another number)
	@scripts/setup.sh
	HALFOPEN_SOAK=$(SOAK) $(CARGO) test --release --locked --test soak -- --nocapture

lint: ## what the continuous integration objects to
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

fmt: ## formats the code
	$(CARGO) fmt

ci: ## what the continuous integration runs
	CI=true .ci/run

release: setup ## builds the optimised binary so that the same source gives the same bytes anywhere
	scripts/release.sh

reproducible: setup ## builds what is committed twice, in two directories, and compares the binaries
	scripts/release.sh --twice

man: release ## the manual pages and completions, below target/package
	scripts/package.sh

deb: release ## the Debian package, below target/debian
	@scripts/setup.sh --packages
	scripts/package.sh --deb

deb-test: deb ## installs the package in a clean root, tries it, removes and purges it (as root)
	scripts/deb-test.sh

image: ## builds the container image, with docker or, where there is none, with buildah, and starts it
	@scripts/setup.sh --packages
	scripts/image.sh

sbom: ## what the binary is made of, as CycloneDX: target/halfopen.cdx.json
	@scripts/setup.sh --supply
	scripts/sbom.sh

deny: ## licences, bans and sources of all dependencies; known flaws too, where their database can be fetched
	@scripts/setup.sh --supply
	scripts/deny.sh

clean: ## deletes what was built
	$(CARGO) clean
