# Every target sets itself up: finds Python, makes the environment, installs. `make` alone lists the targets.
# .venv holds everything, Lava included. .venv310 holds the oldest Python and libraries, for a smaller selection of tests.
VENV := .venv
BIN := $(VENV)/bin
OLD := .venv310
JOBS := 2
PYTHONS := 3.11 3.12 3.13
EXTRAS := lava,onnx,attacks,bench,events,gpu,test,docs,dev
LAVA := lava-nc lava-dl
PEERS := brevitas dependencies norse sinabs snntorch spikingjelly torchattacks unfoldnd

.PHONY: help setup setup310 demo test test310 lint bench docs package clean
help:
	@echo "make setup | demo | test | lint | bench | docs | package | setup310 | test310 | clean"

setup:
	@scripts/setup $(VENV) $(EXTRAS) "$(LAVA) $(PEERS)" $(PYTHONS)

setup310:
	@scripts/setup $(OLD) onnx,test "" 3.10

demo: setup
	$(BIN)/randhet demo --out demo

test: setup
	$(BIN)/python -m pytest -n $(JOBS)

# without Lava, the libraries to compare with, and pages; what integers are computed with, written to and read from
test310: setup310
	$(OLD)/bin/python -m pytest -n $(JOBS) tests/base tests/fixed_point tests/netx tests/export tests/package

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/randhet bench

docs: setup
	$(BIN)/python scripts/write_docs
	$(BIN)/python -m mkdocs build --strict --site-dir site

# wheel and source archive in dist/, then the wheel in an empty environment
package: setup
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	scripts/check_package $(BIN)/python

clean:
	rm -rf $(VENV) $(OLD) demo dist site
