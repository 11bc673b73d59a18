# `make` alone lists the targets. Everything happens in .venv, which is made anew when pyproject.toml changes.

PYTHON ?= python3
BASE_IMAGE ?= python:3.12-slim-bookworm
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
VARIANT ?= plain
IMAGE ?= dumbwaiter-agent:$(VERSION)$(if $(filter-out plain,$(VARIANT)),-$(VARIANT))
MINUTES ?= 30
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Every module is compiled once, and not again by each of the thousands of processes that tests start: an environment
# that forbids it makes `make test` half as long again.
unexport PYTHONDONTWRITEBYTECODE
COMPILED := $(BIN)/python -m compileall -q host container_agent shared_schema

.DEFAULT_GOAL := help
.PHONY: help run test check image bench chaos cluster soak clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

run: .venv/installed ## start the host (the first time it sets up ./data and the agent group `assistant`)
	@$(COMPILED)
	@$(BIN)/dumbwaiter run

test: check ## everything: lint, types, import contracts, and all tests
	$(BIN)/pytest -n $$((3 * $$(getconf _NPROCESSORS_ONLN))) --dist worksteal -m 'not full and not alone'
	$(BIN)/pytest -m 'alone and not full' $$(grep -rl --include='test_*.py' 'mark\.alone' tests)

check: .venv/installed-dev ## lint, types and import contracts, without tests
	@$(COMPILED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

image: ## build the image of agents; VARIANT=model or claude with what those providers need, BASE_IMAGE=… for another base
	docker build -f Dockerfile.agent --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VERSION=$(VERSION) \
	    --build-arg VARIANT=$(VARIANT) \
	    --build-arg SOURCES=$$($(PYTHON) host/runtime/sources.py) -t $(IMAGE) .

bench: .venv/installed-dev ## measure speed and cost, each beside its floor; AGAINST=REV beside an older revision (docs/performance.md)
	$(BIN)/python -m tests.bench $(if $(AGAINST),--against $(AGAINST)) $(filter cluster,$(MAKECMDGOALS))

chaos: .venv/installed-chaos ## everything that can go wrong, at length: two hours and more (docs/reliability.md)
	$(BIN)/pytest -m full
	$(BIN)/pytest -m 'not full' --hypothesis-profile searching
	$(BIN)/python -m tests.fuzz all --runs 100000
	$(MAKE) soak

cluster: .venv/installed-dev ## agents on several machines: late mounts, a Swarm of three engines on this one (needs root; docs/cluster.md); `make bench cluster` measures
	$(if $(filter bench,$(MAKECMDGOALS)),@:,$(BIN)/pytest -m full tests/cluster)

soak: .venv/installed-dev ## MINUTES=30 of random messages, kills and outages, and a report (SEED=… to repeat one, PROVIDER=model for real SDKs)
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(PROVIDER),--provider $(PROVIDER))

clean: ## remove what was built and cached; ./data stays
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find host container_agent shared_schema tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(PIP_INSTALL) -e '.[web]'
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch .venv/installed $@

.venv/installed-chaos: pyproject.toml | .venv/bin/python
	$(PIP_INSTALL) -e '.[chaos]'
	@touch .venv/installed .venv/installed-dev $@
