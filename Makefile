# `make demo` and `make test` set up all they need in .venv; nothing else is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint fuzz results clean

help:
	@echo 'make demo   a photo to .vqc and back, beside a JPEG; results in demo/'
	@echo 'make test   lint, types and all tests (at most 15 minutes)'
	@echo 'make lint   ruff and mypy only'
	@echo 'make fuzz   two minutes of hostile input for all readers (tests/fuzz)'
	@echo 'make results  docs/results.md, plots and the README table from benchmarks/*.json'
	@echo 'make clean  remove .venv, demo/ and caches'

# The virtual environment is made once, and refreshed when pyproject.toml changes.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python benchmarks/demo.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy vqcodec

test: lint
	$(BIN)/python -m pytest

fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/run.py --seconds 120 --jobs 2

results: $(INSTALLED)
	$(BIN)/python benchmarks/results.py

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
