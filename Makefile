# `make demo` and `make test` set up all they need in .venv; nothing else is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The index that pip finds on Linux has torch for CUDA, of more than 2 GB: TORCH=cpu adds one that
# has it for CPUs alone, of 190 MB.
TORCH ?=
PIP := $(BIN)/pip install --quiet $(if $(filter cpu,$(TORCH)),--extra-index-url https://download.pytorch.org/whl/cpu)
# What is installed: the package with what it needs, and what the tests need too
BASE := $(VENV)/.base
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint fuzz web results package clean

help:
	@echo 'make demo   a photo to .vqc and back, beside a JPEG; results in demo/'
	@echo 'make test   lint, types and all tests (five minutes of two cores)'
	@echo 'make lint   ruff and mypy only'
	@echo 'make fuzz   two minutes of hostile input for all readers (tests/fuzz)'
	@echo 'make web    the decoder for browsers, in web/ (needs node and npm)'
	@echo 'make results  docs/results.md, plots and the README table from benchmarks/*.json'
	@echo 'make package  wheel and sdist in dist/, as an index takes them'
	@echo 'make clean  remove .venv, demo/, dist/ and caches'
	@echo 'TORCH=cpu   with any of them: torch without CUDA, where it is to be installed'

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# The virtual environment is made once, and refreshed when pyproject.toml changes.
$(BASE): pyproject.toml | $(VENV)/bin/pip
	$(PIP) --editable .
	touch $@

$(INSTALLED): pyproject.toml | $(VENV)/bin/pip
	$(PIP) --editable '.[dev]'
	touch $@ $(BASE)

demo: $(BASE)
	$(BIN)/python benchmarks/demo.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy vqcodec

# A process for each core, which takes over tests of another where it has none left.
test: lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/run.py --seconds 120 --jobs 2

# The folder web/ is then a page that any server of static files can give out. The tests use it too.
web: $(INSTALLED)
	cd web && npm ci --no-audit --no-fund && node build.mjs && rm -rf node_modules
	$(BIN)/vqcodec export photo-3 --web web/models --force
	$(BIN)/vqcodec export photo-2 --web web/models --force

results: $(INSTALLED)
	$(BIN)/python benchmarks/results.py

# The sdist is built from the tree and the wheel from the sdist.
package: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
