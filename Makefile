# The commands of this project. `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORES := $(shell getconf _NPROCESSORS_ONLN)
FAST := not slow and not gpu

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-slow test-oldest test-newest test-ends lint format bench bench-full

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F '\t' '{printf "make %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## make $(VENV) and install the package with its development tools, at the pinned versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,plotting]"
	@touch $@

# `accelerate launch` gives a process on the CPU one thread unless OMP_NUM_THREADS says otherwise.
quickstart: $(STAMP) ## fine-tune a translator with LoRA on the embedded data, offline
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(CORES)} $(BIN)/accelerate launch recipes/translation.py

test: $(STAMP) ## run the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "$(FAST)"

test-slow: $(STAMP) ## run the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --timeout 1800 -m slow

test-oldest: $(STAMP) ## the fast tests with the oldest version of every dependency that pyproject.toml allows
	$(BIN)/python tests/canary/run.py oldest

test-newest: $(STAMP) ## the fast tests with the newest version of every dependency
	$(BIN)/python tests/canary/run.py newest

test-ends: $(STAMP) ## what a user does first, with the oldest versions and with the newest, torch aside
	$(BIN)/python tests/canary/run.py oldest --short
	$(BIN)/python tests/canary/run.py newest --short

lint: $(STAMP) ## check format, style, types and the structure of the model files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mlinter --no-cache hf_attn/

format: $(STAMP) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## compare speed and memory with other libraries, in about 20 minutes on 2 cores
	@$(call run_benchmarks,--quick)

bench-full: $(STAMP) ## the same in all sizes and with more rounds
	@$(call run_benchmarks,)

define run_benchmarks
set -e; $(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"; \
for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script" $(1); done; \
$(BIN)/python benchmarks/tables.py
endef
