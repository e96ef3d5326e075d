# Needs Python 3.11 or newer, make and git; everything else goes into .venv.
# `make PYTHON=/path/to/python3` says which Python to build it with.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test redis coverage check lint types docs wheel counts ledger bench clean

# Most of a test is waiting, so five at a time keep two cores busy; what takes long comes first.
PYTEST := $(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder

# What concerns delivery and Redis; nothing else depends on the kind of server.
ON_REDIS := $(addprefix tests/faults/test_,bad_messages.py cuts.py frozen.py killed_children.py \
    killed_supervisor.py many_and_large.py redis_away.py redis_killed.py redis_refuses.py several_at_once.py)

# Runs $(1), says how long that took, and ends as it ended.
timed = start=$$(date +%s); $(1); status=$$?; echo "make $@: $$(( $$(date +%s) - start )) s"; exit $$status

help: ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1|\2/p' Makefile | awk -F'|' '{ printf "  %-14s %s\n", $$1, $$2 }'

demo: $(READY) ## a worker with four children and a private server goes through some hundreds of real files
	@$(BIN)/python -m examples.demo

test: $(READY) ## all tests
	@$(call timed,$(PYTEST))

redis: $(READY) ## what must be survived, once more on redis-server instead of Valkey, where it is installed
	@command -v redis-server >/dev/null || { echo "make redis: there is no redis-server here"; exit 0; }; \
	$(call timed,TEST_SERVER=redis $(PYTEST) $(ON_REDIS))

coverage: $(READY) ## all tests, and which branches they reach, in every process; takes half as long again
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m $(notdir $(PYTEST)); status=$$?; \
	$(BIN)/coverage combine --quiet; $(BIN)/coverage report; exit $$status

check: $(READY) ## all that CI runs: lint, types, docs, wheel, test, counts, ledger
	@$(call timed,$(MAKE) --no-print-directory --keep-going lint types docs wheel test counts ledger)

lint: $(READY) ## ruff: every rule but those that pyproject.toml gives a reason against, and the format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	@$(BIN)/mypy

docs: $(READY) ## the documentation into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(READY) ## build the wheel, install it in a fresh environment and try it without the source
	@$(BIN)/python scripts/try_wheel.py

ledger: $(READY) ## a minute of random kills, after which every message must be accounted for
	@$(call timed,$(BIN)/python -m benchmarks.ledger --minutes 1 --seed 1 --prefetch 4)

counts: $(READY) ## round trips, commands, bytes and system calls of a message, held against limits
	@$(call timed,$(BIN)/python benchmarks/counts.py)

bench: $(READY) ## HotQueue beside other queues, half an hour; ARGS=--quick a few minutes, ARGS=--write for the docs
	@cd benchmarks && ../$(BIN)/python -m peers.run $(ARGS)

clean: ## remove all that the other targets made
	rm -rf .venv .bench .hotqueue site dist build .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11 none; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
	    echo "HotQueue needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1): install one, or make PYTHON=/path/to/it" >&2; \
	    exit 1; \
	fi; \
	[ -x $(BIN)/python ] || { echo "Setting up .venv with $$($$python --version): about a minute, once"; $$python -m venv .venv; }
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
