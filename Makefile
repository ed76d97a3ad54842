# Everything needed is set up by the first target that is run; works with macOS's make 3.81.

PYTHON := .venv/bin/python
INSTALLED := .venv/.installed

# Dozens of processes start from these modules: each would compile them again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test every-test lint bench chaos browser compat pipelines rabbitmq docs

help:
	@echo "make demo    migrate a real-shaped index on this machine: private Postgres, Redis, Pinecone emulator, workers, Flower"
	@echo "make test    lint, types and every test, on real Postgres and real Redis"
	@echo "make browser install a Chromium (as root) and its driver, for the stories that the tests then tell in a real browser"
	@echo "make compat  releases 5 to 10 of Pinecone's SDK, LangChain, vec2pg, vecparity and vector-io, each in an environment of its own, against the emulator; pandas, polars and duckdb on an export"
	@echo "make pipelines install Airflow, Dagster and Prefect, for the stories that then run the examples in them"
	@echo "make rabbitmq install a RabbitMQ (as root), for the stories that the tests then tell on a real one; it is not started"
	@echo "make chaos   faults at random times; SEEDS=200 for more, AT_ONCE=3 fleets, SEED=17 to try one again; FRESHNESS=8 for longer lags"
	@echo "make docs    the pages as a site that can be read from the disk, in .site"
	@echo "make lint    lint and types alone"
	@echo "make bench   measure, quickly: 20 to 25 minutes; FULL=1 for all of it, JSON=file keeps it, PARTS='copy scale' for some"
	@echo "make setup   make .venv with the pinned dependencies; every other target does it where needed"

setup: $(INSTALLED)
	@echo "next: make demo"

$(INSTALLED): requirements.lock pyproject.toml bin/setup bin/vecfleet
	@bin/setup
	@touch $@

demo: $(INSTALLED)
	@.venv/bin/vecfleet demo

test: $(INSTALLED)
	@$(PYTHON) -m tests.browser.chromium
	@$(MAKE) --no-print-directory -j 2 lint every-test

# Of two cores five processes leave little idle: a story waits for most of its time.
every-test:
	@$(PYTHON) -m pytest -n 5 --dist worksteal

browser: $(INSTALLED)
	@bin/browser

compat: $(INSTALLED)
	@bin/compat
	@$(PYTHON) -m pytest tests/compat -rps

pipelines: $(INSTALLED)
	@bin/pipelines

rabbitmq: $(INSTALLED)
	@bin/rabbitmq

SEEDS ?= 20

chaos: $(INSTALLED)
	@$(PYTHON) -m tests.chaos $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(if $(AT_ONCE),--at-once $(AT_ONCE)) $(if $(FRESHNESS),--freshness $(FRESHNESS))

lint: $(INSTALLED)
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m mypy

docs: $(INSTALLED)
	@$(PYTHON) -m mkdocs build --strict --quiet
	@echo "next: open .site/index.html"

bench: $(INSTALLED)
	@$(PYTHON) -m benchmarks $(if $(FULL),,--quick) $(if $(JSON),--json $(JSON)) $(PARTS)
