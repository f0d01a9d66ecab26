# Every target sets itself up: finds Python 3.10, makes .venv, installs. `make` alone lists the targets.
VENV := .venv
BIN := $(VENV)/bin
NEW := .venv311
# The newer Python for everything but Lava; override with make test311 PYTHON311=...
PYTHON311 ?= python3.11

.PHONY: help setup setup311 demo test test311 lint bench clean
help:
	@echo "make setup | demo | test | lint | bench | test311 | clean"

setup:
	@test -e scripts/setup && python=$$(scripts/python310) && scripts/setup "$$python" $(VENV) lava,dev

setup311:
	@scripts/setup $(PYTHON311) $(NEW) dev

demo: setup
	$(BIN)/randhet demo --out demo

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

clean:
	rm -rf $(VENV) $(NEW) demo
