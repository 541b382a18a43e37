.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

define CHECK
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit( \
	  f"Python 3.10 to 3.13 is needed, and $(PYTHON) is {v[0]}.{v[1]}; say which to use: make PYTHON=python3.12 ...")'
endef

.PHONY: help locked fit test test-all browser dashboard results bench lock audit clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Made once, and again when pyproject.toml changes.
.venv/installed: pyproject.toml
	$(CHECK)
	@echo "setting up .venv (once; a minute or more, several GB)"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) --editable '.[dev,photos,export]'
	@touch $@

locked:  ## set up .venv from .requirements.txt: the releases of the README's figures, each proven by its hash
	$(CHECK)
	@$(PYTHON) -m venv --clear .venv
	@$(INSTALL) --require-hashes --requirement .requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch .venv/installed

fit: .venv/installed  ## train the default network on the real data (downloads it the first time)
	@$(BIN)/python -m fmnist_lightning fit

test: .venv/installed  ## linters, types and tests, within 5 minutes
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --numprocesses 2 -m "not slow"

test-all: .venv/installed  ## the same, and the tests that take longer or need the real data
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m pytest

browser: .venv/installed  ## install what the test of the dashboard in a browser needs (apt-get, as root)
	@$(INSTALL) --editable '.[browser]'
	@command -v chromium chromium-browser google-chrome > /dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null; }

dashboard: .venv/installed  ## serve TensorBoard on the runs made here
	@$(BIN)/tensorboard --logdir runs

results: .venv/installed  ## train every row of the README's results again (over three hours), and write table and chart
	@$(INSTALL) --editable '.[bench]'
	@$(BIN)/python benchmarks/results.py

bench: .venv/installed  ## measure speed beside a plain loop and textbook Lightning (half an hour)
	@$(INSTALL) --editable '.[bench]'
	@$(BIN)/python benchmarks/speed.py

lock: .venv/installed  ## bring .requirements.txt in line with pyproject.toml; what it has already stays
	@$(INSTALL) --editable '.[audit]'
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.10 \
	  --extra dev --extra photos --extra export --output-file .requirements.txt pyproject.toml

audit: .venv/installed  ## look all of .requirements.txt up in the database of known vulnerabilities
	@$(INSTALL) --editable '.[audit]'
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement .requirements.txt

clean:  ## remove the virtual environment and caches; runs and data stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache *.egg-info
