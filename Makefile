# make run     set up, build, serve, generate one video (PROMPT=..., ONCE=1 to stop afterwards)
# make test    the whole check
# make bench   the numbers of docs/performance.md
# make bench-http what the server itself costs, with workers that do nothing
# make chaos   the numbers of docs/reliability.md: faults, kills, full disks (lengths: variables below)
# make quality the judge over the prompts of the built-in model, and a contact sheet
# make build   target/release/reel and target/release/reel-worker
# make man     manual pages of the command line, in target/man
# make setup   what the others need; idempotent

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: setup build man run test lint rust-test python-test e2e docs bench bench-scheduler bench-http chaos quality clean

PROMPT ?= a red circle moving right on a black background
LISTEN ?= 127.0.0.1:8000
OUT ?= out.mp4
ONCE ?=
PYTHON := .venv/bin/python
# Longest wait of `make run` for the first bake, in seconds.
FIRST_BAKE_S ?= 1800

BENCH_CACHE ?= --cache-dir $(or $(REEL_CACHE_DIR),$(HOME)/.cache/reel)
BENCH_ARGS ?=

setup:
	.ci/setup

build: setup
	cargo build --release --locked --package reel-bin --package reel-worker-bin

man:
	cargo run --locked --package reel-bin -- man target/man

run: build
	.ci/serve-and-generate "$(PROMPT)" $(LISTEN) $(OUT) $(FIRST_BAKE_S) $(ONCE)

test: lint rust-test python-test e2e docs
	@echo "all checks passed"

lint:
	.ci/setup test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	cargo deny --log-level error check bans licenses sources
	.venv/bin/ruff check python tests
	.venv/bin/ruff format --check python tests

rust-test:
	.ci/setup test
	cargo nextest run --workspace --locked

python-test:
	.ci/setup
	$(PYTHON) -m pytest -q python/tests

e2e:
	.ci/setup test
	cargo build --locked --package reel-bin --package reel-worker-bin
	$(PYTHON) -m pytest -q tests/e2e

docs:
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked --document-private-items

bench: build
	cargo build --release --locked --package reel-bench
	target/release/reel bake $(BENCH_CACHE)
	target/release/reel-bench $(BENCH_CACHE) --json target/bench.json $(BENCH_ARGS)
	$(MAKE) bench-scheduler

# Inputs per second, a million-input recording three times, spawns over the offline optimum.
bench-scheduler:
	cargo run --release --locked --package reel-simulator --example throughput
	REEL_REPLAY_INPUTS=1000000 cargo nextest run --release --locked --package reel-simulator --test replay --no-capture
	cargo run --release --locked --package reel-simulator --example optimum

# Reel beside a bare HTTP handler; no libtorch, no GPU, nothing baked.
bench-http:
	cargo build --release --locked --package reel-bin --package reel-fake-worker --package reel-bench
	target/release/reel-bench http --json target/bench-http.json $(BENCH_ARGS)

# What `make test` does shortly, at length: CHAOS_FAULTS random faults, CHAOS_KILLS kills of the server, and so on.
CHAOS_FAULTS ?= 1000
CHAOS_KILLS ?= 200
CHAOS_CYCLES ?= 100000
CHAOS_DEATHS ?= 50
CHAOS_RESUMES ?= 30
CHAOS_IDLE_S ?= 10
CHAOS_SEED ?= 1
chaos: export REEL_CHAOS_REPORT = $(CURDIR)/target/chaos.md
chaos: build
	.ci/setup test
	printf '| what | bar | measured |\n|---|---|---|\n' > $$REEL_CHAOS_REPORT
	cargo build --release --locked --package reel-bench
	target/release/reel bake $(BENCH_CACHE)
	target/release/reel-bench $(BENCH_CACHE) --deaths $(CHAOS_DEATHS)
	cache=$(lastword $(BENCH_CACHE)); cargo run --release --locked --package reel-engine --example checkpoint -- \
	    --cache $$cache --bundle $$cache/per-shape/tiny-shapes/64x64@17f/current
	REEL_CHAOS_FAULTS=$(CHAOS_FAULTS) REEL_CHAOS_CYCLES=$(CHAOS_CYCLES) REEL_CHAOS_SEED=$(CHAOS_SEED) \
	    cargo nextest run --release --locked --profile chaos --package reel-fake-worker --test chaos --no-capture
	REEL_CHAOS_KILLS=$(CHAOS_KILLS) REEL_CHAOS_RESUMES=$(CHAOS_RESUMES) REEL_CHAOS_IDLE_S=$(CHAOS_IDLE_S) \
	    REEL_CHAOS_SEED=$(CHAOS_SEED) REEL_TEST_PROGRAMS=target/release \
	    $(PYTHON) -m pytest -q tests/e2e/test_chaos.py tests/e2e/test_faults.py tests/e2e/test_idle.py
	@echo; cat $$REEL_CHAOS_REPORT

quality: build
	tests/quality.sh

clean:
	cargo clean
