# The two commands of the README are `make demo` and `make test`; each does its own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo cluster-demo test test-quick test-long check bench docs pictures clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

demo: $(VENV)/.installed ## a sample into demo/, read and drawn; prints a line per series, and what to open
	@$(BIN)/aneurysm-assets demo demo

cluster-demo: $(VENV)/.installed-cluster ## the sample in a bucket, by two workers, with real servers
	@$(BIN)/python -m deploy.cluster_demo

# Three processes for two cores, as many tests wait for servers; each file of tests stays in one.
# In the order of their names: by number of tests, as is usual, the longest would begin last.
test: $(VENV)/.installed-test ## all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-quick: $(VENV)/.installed-test ## the quick tests, for every change: CONTRIBUTING.md says what they leave out
	$(BIN)/python -m pytest -n 2 -m "not hypothesis" -k "not bucket and not peak_memory" \
	tests/schema tests/volumes tests/nifti tests/raw tests/quality tests/unified tests/test_*.py

test-long: $(VENV)/.installed-test ## all tests, and what chance decides far more often: hours
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --long

check: $(VENV)/.installed-test ## linter, formatter, type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-bench ## measure, and renew docs/performance.md and what docs/volumes.md compares
	$(BIN)/python -m benchmarks --document docs/performance.md
	$(BIN)/python -m benchmarks.exactness docs/volumes.md

docs: $(VENV)/.installed ## renew docs/tables.md and docs/checks.md
	$(BIN)/python -m aneurysm_assets.schema.documentation docs

pictures: $(VENV)/.installed-test ## renew docs/images from the tests of the UI
	$(BIN)/python -m pytest tests/end_to_end/test_browser.py --pictures docs/images

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[preview,report]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.installed-cluster: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster-demo]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench,cluster-demo]'
	@touch $@

clean: ## remove the environment and all caches
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
