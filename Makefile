# Needs Python 3.11 or newer, make and git; everything else goes into .venv.
# `make PYTHON=/path/to/python3` says which Python to build it with.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check lint types docs wheel bench clean

# Runs $(1), says how long that took, and ends as it ended.
timed = start=$$(date +%s); $(1); status=$$?; echo "make $@: $$(( $$(date +%s) - start )) s"; exit $$status

help: ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1|\2/p' Makefile | awk -F'|' '{ printf "  %-12s %s\n", $$1, $$2 }'

demo: $(READY) ## a worker with four children and a private server goes through some hundreds of real files
	@$(BIN)/python -m examples.demo

test: $(READY) ## all tests, with coverage
	@$(call timed,$(MAKE) --no-print-directory coverage)

check: $(READY) ## all that CI runs: lint, types, docs, wheel, test
	@$(call timed,$(MAKE) --no-print-directory --keep-going lint types docs wheel test)

lint: $(READY) ## ruff: every rule but those that pyproject.toml gives a reason against, and the format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	@$(BIN)/mypy

docs: $(READY) ## the documentation into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(READY) ## build the wheel, install it in a fresh environment and try it without the source
	@$(BIN)/python scripts/try_wheel.py

bench: $(READY) ## how fast a queue is drained, beside a plain BLPOP loop
	@$(BIN)/python benchmarks/drain.py

clean: ## remove all that the other targets made
	rm -rf .venv .hotqueue site dist build .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: coverage
coverage:
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest; status=$$?; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report || exit 1; exit $$status

$(READY): pyproject.toml
	@for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11 none; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
	    echo "HotQueue needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1): install one, or make PYTHON=/path/to/it" >&2; \
	    exit 1; \
	fi; \
	[ -x $(BIN)/python ] || { echo "Setting up .venv with $$($$python --version) ..."; $$python -m venv .venv; }
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
