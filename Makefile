# Every target sets itself up: finds Python, makes the environment, installs. `make` alone lists the targets.
# Python 3.10 carries Lava (.venv); everything else also runs on 3.11 with a newer torch (.venv311).
VENV := .venv
BIN := $(VENV)/bin
NEW := .venv311

.PHONY: help setup setup311 demo demo311 test test311 lint bench docs clean
help:
	@echo "make setup | demo | test | lint | bench | docs | setup311 | demo311 | test311 | clean"

setup:
	@scripts/setup 3.10 $(VENV) lava,onnx,attacks,bench,dev,docs

setup311:
	@scripts/setup 3.11 $(NEW) onnx,bench,dev,docs

demo: setup
	$(BIN)/randhet demo --out demo

demo311: setup311
	$(NEW)/bin/randhet demo --out demo

test: setup
	$(BIN)/python -m pytest

test311: setup311
	$(NEW)/bin/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/randhet bench

docs: setup
	$(BIN)/python scripts/write_docs
	$(BIN)/python -m mkdocs build --strict --site-dir site

clean:
	rm -rf $(VENV) $(NEW) demo site
