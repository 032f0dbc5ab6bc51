# `make` alone lists what can be made. A Python from 3.11 on and make are all that must be there:
# every target first sets up what it needs below .venv, from the pinned files in requirements/.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
export PYTHON
# Where Python may not keep what it compiled, each of the processes that the tests start compiles everything again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo serve storefront test test-faults check contracts planted bench bench-real lock clean distclean base dev tools

help:  ## this list
	@echo 'Allocation. What can be made:'
	@sed -nE "s/^([a-z-]+):[^#]*## (.*)/  make \1|\2/p" Makefile | while IFS='|' read -r target meaning; do printf '%-18s %s\n' "$$target" "$$meaning"; done
	@echo "PYTHON=/path/to/python3 chooses the interpreter. ARGS='...' is handed on: make test ARGS='-k eta'"

demo: base  ## a small furniture shop: starts the service, takes in a day, prints the promises, leaves nothing
	@$(BIN)/allocation demo $(ARGS)

serve: base  ## the service on this machine; ALLOCATION_... variables set it up (see: .venv/bin/allocation settings)
	@exec $(BIN)/allocation serve $(ARGS)

storefront: base  ## a second small program that keeps a copy of the stock levels, on port 5006 (examples/storefront)
	@exec $(BIN)/python -m examples.storefront $(ARGS)

# Three processes share the tests, each with private servers: on two processors, for now and then each waits for one of
# its servers. A Redis that is named is emptied by each test: one process, then.
# Files as they stand, not by how many tests they have: the slow ones have few, and nobody shares the last one's time.
TEST_PROCESSES ?= $(if $(ALLOCATION_TEST_REDIS_URL),0,3)

test: dev  ## every test, with a real PostgreSQL, Redis and Kafka
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-faults: dev  ## 200 crashes under load at named points, then a check of what must hold (ALLOCATION_TEST_FAULTS=200)
	@ALLOCATION_TEST_FAULTS=$${ALLOCATION_TEST_FAULTS:-200} $(BIN)/python -m pytest -s tests/faults/test_campaign.py $(ARGS)

check: dev  ## style, strict types, the rule of who may import whom, and what was promised to other programs
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m allocation.entrypoints.contracts

contracts: base  ## docs/asyncapi.json anew, unless that would break a promise made to other programs
	@$(BIN)/python -m allocation.entrypoints.contracts --write

planted: dev  ## plants each known bug in a copy of the source, and demands that its test goes red
	@$(BIN)/python -m tests.planted $(ARGS)

bench: tools  ## allocations per second, beside an echo route and a hand-written program
	@$(BIN)/python -m benchmarks $(ARGS)

bench-real: tools  ## a grocer's real year, every placement compared with an oracle's
	@$(BIN)/python -m benchmarks.real_year $(ARGS)

lock: base  ## pin what setup.py asks for (ARGS=--upgrade renews the pins)
	@scripts/lock $(ARGS)

clean:  ## remove caches and builds
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## remove the virtual environment as well
	rm -rf .venv src/*.egg-info

base dev:
	@scripts/environment $@

tools:
	@scripts/environment bench
