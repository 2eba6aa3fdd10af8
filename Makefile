# Every target works on a fresh machine: it makes the environment first where that is missing.
PYTHON ?= python3
VENV   ?= .venv
EXP    ?= digits
ARGS   ?=
BIN    := $(VENV)/bin
# Two workers of one thread each: most of the tests' time is spent outside torch.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run report list test test-slow test-cluster check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12
	@echo
	@echo "EXP=$(EXP) is the experiment; ARGS holds overrides: make run EXP=cifar_sam ARGS='seed=0,1'"

setup: $(READY) ## make the environment in .venv

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("regbench needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2] if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(READY) ## train EXP and print its table
	$(BIN)/regbench run +exp=$(EXP) $(ARGS)

report: $(READY) ## print EXP's table again from its records
	$(BIN)/regbench report $(EXP) $(ARGS)

list: $(READY) ## list datasets, models, regularizers, optimizers and experiments
	$(BIN)/regbench list

test: $(READY) ## run the tests (under 5 minutes)
	$(PYTEST) -m 'not slow and not cluster'

test-slow: $(READY) ## run the slow tests
	$(PYTEST) -m slow

test-cluster: $(READY) ## run the tests of launchers, with a Ray and a Slurm of their own
	$(BIN)/python -m pytest -m cluster

check: $(READY) ## lint, types and tests: what CI runs before the slow tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

clean: ## remove the environment and caches; results and data stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find bench hydra_plugins tests scripts -name __pycache__ -prune -exec rm -rf {} +
