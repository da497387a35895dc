# make demo, make test: each makes a virtual environment on first use, and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types bench clean

demo: $(VENV)/torch.stamp  ## compile a training-form MobileOne, verify it, measure the speed-up
	$(BIN)/python examples/demo.py

test: $(VENV)/dev.stamp  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/dev.stamp
	$(BIN)/mypy

bench: $(VENV)/dev.stamp  ## write docs/benchmarks.md and the table in README.md; long, on a quiet machine
	$(BIN)/python examples/benchmarks.py

clean:
	rm -rf $(VENV) build demo *.egg-info

# A stamp lists the extras that are in; it is newer than what they were installed from.
$(VENV)/torch.stamp: EXTRAS := torch
$(VENV)/dev.stamp: EXTRAS := torch,simplify,dev

$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[$(EXTRAS)]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
