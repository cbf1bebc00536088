# Everything runs in a virtual environment of its own. Git, make and Python >= 3.11 are all that must be there before.
#
#   VENV=…     where that environment is (default .venv)
#   PYTHON=…   the Python it is made with (default: the newest supported one found)
#   SEEDS=…    how many runs `make sim` simulates (default 10000)
#   ARGS=…     more arguments for pytest, the demo or the benchmarks

VENV ?= .venv
PYTHON ?=
ARGS ?=
SEEDS ?= 10000

BIN := $(VENV)/bin
CODE := src tests $(wildcard benchmarks)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help demo test check format-check lint types contracts docs reference bench bench-step bench-peers bench-memory verdicts score fuzz sim faults soak reliability format hooks test-all build sandbox faulty clean distclean

help: ## Say what can be made (this)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed sandbox ## Watch an agent work: no key, no network
	@$(BIN)/ostler demo $(ARGS)

test: $(VENV)/.installed-dev sandbox faulty ## Run the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

check: format-check lint types contracts test ## Check format, lint, types, import contracts, tests and, with them, the documents

format-check: $(VENV)/.installed-dev ## Check that the code is formatted
	@$(BIN)/ruff format --check $(CODE)

lint: $(VENV)/.installed-dev ## Check for likely mistakes
	@$(BIN)/ruff check $(CODE)

types: $(VENV)/.installed-dev ## Check the types
	@$(BIN)/mypy $(CODE)

contracts: $(VENV)/.installed-dev ## Check that imports point down the rings
	@$(BIN)/lint-imports --no-logo

docs: $(VENV)/.installed-dev ## Check the documents alone: links, examples, reference, changelog
	@$(BIN)/python -m pytest tests/tidy/test_documents.py $(wildcard tests/docs) $(ARGS)

reference: $(VENV)/.installed-dev ## Write the pages of docs/reference anew, from the code
	@$(BIN)/python scripts/reference.py

bench: bench-step bench-peers ## Measure what a step costs, beside a bare floor and beside peers (some 20 minutes)

bench-step: $(VENV)/.installed sandbox ## Measure what a step costs, beside a bare floor
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(VENV)/.installed-dev .make/peers/.installed sandbox ## Measure it beside its peers, and write the page
	@$(BIN)/python -m benchmarks.peers --write $(ARGS)

bench-memory: .make/memory/.installed ## Measure what remembering, recalling and the knowledge graph cost, beside peers (some 10 minutes)
	@.make/memory/bin/python -m benchmarks.memory $(ARGS)
	@.make/memory/bin/python -m benchmarks.graph

AGENTDOJO ?= $(OSTLER_AGENTDOJO)

score: $(VENV)/.installed ## Score the policy packs on the AgentDojo suites in the folder AGENTDOJO=…
	@$(BIN)/ostler policy score $(foreach suite,$(wildcard $(AGENTDOJO)/*.json),--suite $(suite) \
		--roles examples/agentdojo/$(basename $(notdir $(suite))).toml) $(ARGS)

verdicts: $(VENV)/.installed-dev ## Measure what a verdict costs, beside a bare loop and Cedar
	@$(BIN)/python -m benchmarks.verdicts $(ARGS)

fuzz: $(VENV)/.installed-dev ## Give the language of rules a million inputs
	@$(BIN)/python -m tests.domain.constraint.fuzz --inputs 1000000 $(ARGS)

sim: $(VENV)/.installed ## Simulate SEEDS runs of the whole runtime, with faults at random
	@$(BIN)/python -m ostler.testing.sim --seeds $(SEEDS) $(ARGS)

MINUTES ?= 60
SEED ?= $(shell date +%s)

faults: $(VENV)/.installed-dev sandbox faulty ## Bring about every fault in its long form (some 20 minutes)
	@OSTLER_TEST_LONG=1 $(BIN)/python -m pytest -m fault tests/faults tests/adapters/store/test_postgres_faults.py $(ARGS)

soak: $(VENV)/.installed-dev faulty ## Faults at random for MINUTES=60 under a SEED=…: nothing may break or grow
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --seed $(SEED)

reliability: $(VENV)/.installed-dev sandbox faulty ## Write docs/reference/reliability.md anew, from a run of its tests
	@$(BIN)/python scripts/reliability.py

format: $(VENV)/.installed-dev ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix --quiet --exit-zero $(CODE)
	@$(BIN)/ruff format $(CODE)

hooks: $(VENV)/.installed-dev ## Run the quick checks before every commit from now on
	@$(BIN)/pre-commit install

test-all: ## Run the suite under each supported Python found here
	@set -e; for version in 3.11 3.12 3.13; do \
		if python=$$(scripts/find-python $$version); then \
			echo "== Python $$version"; \
			$(MAKE) --no-print-directory test VENV=.make/venv-$$version PYTHON=$$python; \
		else \
			echo "== Python $$version is not here: passed over"; \
		fi; \
	done

build: $(VENV)/.installed-dev ## Build the wheel and the source archive
	@$(BIN)/python -m hatchling build

clean: ## Remove what was built and cached
	@rm -rf dist .make .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## … and the virtual environment
	@rm -rf $(VENV)

$(BIN)/python:
	@scripts/make-venv $(VENV) $(PYTHON)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing Ostler into $(VENV) …" >&2
	@$(PIP_INSTALL) --editable '.[cli,http,postgres,regex,signing]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing Ostler and the tools that check it into $(VENV) …" >&2
	@$(PIP_INSTALL) --editable '.[cli,http,postgres,redis,nats,kafka,regex,solver,signing,monty,prices,memory,statistics,graph,testing,dev]'
	@touch $(VENV)/.installed $@

.make/memory/.installed: benchmarks/peers/memory.txt
	@scripts/make-venv .make/memory $(PYTHON)
	@echo "Installing Ostler and its peers in memory into .make/memory …" >&2
	@.make/memory/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.make/peers/.installed: benchmarks/peers/requirements.txt
	@scripts/make-venv .make/peers $(PYTHON)
	@echo "Installing the peers into .make/peers …" >&2
	@.make/peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# What breaks things on purpose: a pooler in front of PostgreSQL, other clocks, and system calls that fail.
faulty:
	@command -v pgbouncer >/dev/null || scripts/install-package pgbouncer "PgBouncer, behind which the store is tested"
	@command -v faketime >/dev/null || scripts/install-package faketime "libfaketime, which gives tests other clocks"
	@command -v strace >/dev/null || scripts/install-package strace "strace, which makes system calls fail for tests"

sandbox:
	@command -v bwrap >/dev/null || scripts/install-package bubblewrap "bubblewrap, in which agents run commands"
