# make demo, make test: each makes a virtual environment on first use, and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
GRAPHS ?= 20000
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types bench zoo coverage mutations verification certificates fuzz guards scaling large clean

demo: $(VENV)/demo.stamp  ## compile a training-form MobileOne, verify it, measure the speed-up
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

zoo: $(VENV)/dev.stamp  ## write docs/zoo.md: every family of timm and torchvision; hours, goes on where it was stopped
	$(BIN)/python examples/zoo_sweep.py

coverage: $(VENV)/dev.stamp  ## write docs/coverage.md: tiny graphs through repc and other optimisers
	$(BIN)/python examples/tiny_coverage.py

mutations: $(VENV)/dev.stamp  ## write docs/mutations.md: small mistakes in the equations, and the tests that notice
	OMP_NUM_THREADS=1 $(BIN)/python examples/mutate_algebra.py

verification: $(VENV)/dev.stamp  ## write docs/verification.md: broken models that must be caught, equal ones that must pass
	OMP_NUM_THREADS=1 $(BIN)/python examples/verification.py

certificates: $(VENV)/dev.stamp  ## write docs/certificates.md: verdicts, time and mistakes noticed by each rewrite's own check
	OMP_NUM_THREADS=1 $(BIN)/python examples/certificates.py

fuzz: $(VENV)/dev.stamp  ## write docs/fuzzing.md: random networks through the compiler; hours, goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python examples/fuzz.py --graphs $(GRAPHS) --jobs $(JOBS)

guards: $(VENV)/dev.stamp  ## write docs/guards.md: each guard disabled in turn, and what notices
	OMP_NUM_THREADS=1 $(BIN)/python examples/mutate_guards.py

scaling: $(VENV)/dev.stamp  ## write docs/scaling.md: seconds against the number of nodes, up to 10,000
	$(BIN)/python examples/scaling.py

large: $(VENV)/dev.stamp  ## the slow tests: models of 3 GB, and the memory they take
	REPC_LARGE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/onnx/test_large.py

clean:
	rm -rf $(VENV) build demo *.egg-info

# A stamp lists the extras that are in; it is newer than what they were installed from.
$(VENV)/demo.stamp: EXTRAS := torch,diff
$(VENV)/dev.stamp: EXTRAS := torch,simplify,diff,dev

$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[$(EXTRAS)]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
