PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data

# One thread a process, since tests and benchmarks run several; none spins while waiting.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup serve demo check lint types imports fix test test-slow bench bench-load clean

help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[embedded,worker,dev]'
	@touch $@

setup: $(BIN)/.ready ## Make .venv with everything in it

serve: setup ## Start API, worker and scheduler on this machine
	$(BIN)/model-audit serve --data-dir $(DATA)

demo: setup ## Audit a faulty model on real data and print what is wrong with it
	$(BIN)/model-audit demo --data-dir $(DATA)

lint: setup ## Check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup ## Check types
	$(BIN)/mypy service worker

imports: setup ## Check that rooms import only what they may
	$(BIN)/lint-imports
	$(BIN)/deptry .

check: lint types imports ## Check format, lint, types, imports; run the fast tests
	$(BIN)/pytest -q -n 2

fix: setup ## Format and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## Run the tests, those that start real processes too
	$(BIN)/pytest -q -n 2 -m "not slow and not gpu"

# Measured with no other test beside them.
RATIOS := tests/benchmarks/test_speed_ratios.py
test-slow: setup ## Run the tests that train for long: planted faults, rates by simulation
	$(BIN)/pytest -q -m "slow and not gpu" $(RATIOS)
	$(BIN)/pytest -q -n 2 -m "slow and not gpu" --ignore $(RATIOS)

bench: setup ## Run the short benchmarks: diagnosis quality and speed
	$(BIN)/python -m benchmarks.faults --short
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.load --short

bench-load: setup ## Measure the service under load
	$(BIN)/python -m benchmarks.load

clean: ## Remove what setup and the tests made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build
