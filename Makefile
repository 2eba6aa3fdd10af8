# Every target works on a fresh machine: it makes the environment first where that is missing.
PYTHON ?= python3
VENV   ?= .venv
EXP    ?= digits_noisy
ARGS   ?=
BIN     = $(VENV)/bin
# Two workers of one thread each: most of the tests' time is spent outside torch.
PYTEST  = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
READY  := $(VENV)/.ready
TESTED := --constraint constraints.txt --editable '.[dev]'

.DEFAULT_GOAL := help
.PHONY: help setup constraints run report list test test-slow test-cluster test-cuda test-newest test-oldest check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14
	@echo
	@echo "EXP=$(EXP) is the experiment; ARGS holds overrides: make run EXP=cifar_sam ARGS='seed=0,1'"

setup: $(READY) ## make the environment in .venv

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("regbench needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2] if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	$(PYTHON) -m venv $(VENV)
	if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python $(TESTED); \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check $(TESTED); fi
	@touch $@

constraints: ## remake constraints.txt by uv, with what changed in pyproject.toml; ARGS=--upgrade renews all
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-annotate \
		--custom-compile-command 'make constraints' $(ARGS) pyproject.toml --output-file constraints.txt

# results/ holds the committed tables: what is trained here goes beside it, and leaves them as they are.
TRAINED ?= trained

run: $(READY) ## train EXP into trained/, a run on each core or GPU, and print its table
	REGBENCH_RESULTS=$(TRAINED) $(BIN)/regbench run +exp=$(EXP) \
		$(if $(findstring hydra/launcher=,$(ARGS)),,hydra/launcher=joblib) $(ARGS)

report: $(READY) ## print EXP's table again from its records, the committed one where there are none
	REGBENCH_RESULTS=$(if $(wildcard $(TRAINED)/$(EXP)),$(TRAINED),results) $(BIN)/regbench report $(EXP) $(ARGS)

list: $(READY) ## list datasets, models, regularizers, optimizers and experiments
	$(BIN)/regbench list

test: $(READY) ## run the tests (5 minutes on 2 cores)
	$(PYTEST) -m 'not slow and not cluster'

test-slow: $(READY) ## run the slow tests
	$(PYTEST) -m slow

test-cluster: $(READY) ## run the tests of launchers, with a Ray and a Slurm of their own
	$(BIN)/python -m pytest -m cluster

test-cuda: $(READY) ## on a machine with a GPU: tests, a short training, what is open, speed; into cuda.txt
	$(BIN)/python scripts/test_cuda.py $(ARGS)

# The two ends of what pyproject.toml takes, each in an environment of its own that uv makes anew.
test-newest: VENV := .venv-newest
test-newest: RESOLUTION := highest
test-oldest: VENV := .venv-oldest
test-oldest: RESOLUTION := lowest-direct
test-newest: ## run the tests with the newest versions that pyproject.toml takes; needs uv
test-oldest: ## run the tests with the oldest versions that pyproject.toml takes; needs uv
test-newest test-oldest:
	uv venv --quiet --clear --seed --python $(PYTHON) $(VENV)
	uv pip install --quiet --python $(VENV) --resolution $(RESOLUTION) --editable '.[dev]'
	$(PYTEST) -m 'not slow and not cluster'

check: $(READY) ## lint, types and tests: what CI runs before the slow tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

clean: ## remove the environment and caches; results and data stay
	rm -rf $(VENV) .venv-newest .venv-oldest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find bench tests scripts -name __pycache__ -prune -exec rm -rf {} +
