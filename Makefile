# Two commands: `make reproduce` and `make test`. Each makes what it needs; a second call starts at once.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help reproduce test test-tl4 test-slow lint bench figures clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

reproduce: .venv/installed  ## re-measure every claim of the paper on the bundled run
	@$(BIN)/fourier-circuits reproduce --out report

test: .venv/installed-dev  ## run all tests
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-tl4: .venv/installed-dev .venv-tl4/installed  ## run the tests under TransformerLens 4, and compare the numbers
	@mkdir -p build/tl3
	@$(BIN)/python -m tests.majors build/tl3/checkpoint.pt > build/tl3/numbers.json
	@OTHER_MAJOR=$(CURDIR)/build/tl3 .venv-tl4/bin/python -m pytest -q -n 2 --dist loadfile tests/model \
		tests/test_ablation.py tests/test_any_model.py tests/test_majors.py tests/test_reproduction.py tests/training

test-slow: .venv/installed-dev  ## the campaigns that take minutes
	@$(BIN)/python -m pytest -q -m slow

lint: .venv/installed-dev  ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

bench: .venv/installed  ## time the engine and the measures against their baselines
	@$(BIN)/python -m benchmarks

figures: .venv/installed-dev  ## draw the picture of the README again (needs a Chromium)
	@$(BIN)/fourier-circuits report --out build/report --png
	@cp build/report/figures/figure-7.png docs/progress.png

clean:  ## remove what the commands made
	rm -rf .venv .venv-tl4 build report .pytest_cache .ruff_cache .hypothesis

# torch alone first: asked for by another package, pip would take a newer build of several gigabytes.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is %d.%d: make PYTHON=/path/to/python3.11 ..." % v)'
	@echo "installing into .venv (about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(INSTALL) torch
	@$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(INSTALL) --editable '.[dev]'
	@touch $@

.venv-tl4/installed: pyproject.toml constraints.txt constraints-tl4.txt
	@echo "installing TransformerLens 4 into .venv-tl4 ..."
	@test -x .venv-tl4/bin/python || $(PYTHON) -m venv .venv-tl4
	@.venv-tl4/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-tl4.txt torch
	@.venv-tl4/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-tl4.txt --editable '.[dev]'
	@touch $@
