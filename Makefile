# Every target works on a fresh machine. The first one makes the virtual environment; later ones bring it up to date
# when setup.cfg or the constraints change. `make test VENV=/path/to/venv` uses another one.
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
PYTHON ?= python3
PIP_FLAGS ?= -qq --disable-pip-version-check

.PHONY: demo test test-lowest test-faults mutate lint bench bench-data soak clean

demo: $(VENV)/installed-report  ## tune SPACE on the embedded data: 8 trials on a laptop's CPU
	$(VENV)/bin/python study/run.py --model space --trials 8

# Tests that share a Ray cluster form one xdist group (tests/conftest.py), so that one worker starts it.
test: $(VENV)/installed-dev  ## the whole test suite on two cores
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadgroup

test-lowest: $(VENV)/lowest/constraints.txt  ## the test suite on the lower bounds of setup.cfg, in an environment of its own
	$(MAKE) --no-print-directory test VENV=$(VENV)/lowest CONSTRAINTS=$<

test-faults: $(VENV)/installed-dev  ## make faults for real on small studies, and a table of what they survived; about half an hour
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.faults

mutate: $(VENV)/installed-dev  ## change one line at a time and see whether the file's own tests notice
	$(VENV)/bin/python -m tests.mutations

lint: $(VENV)/installed-dev  ## style, format, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/installed-dev  ## speed and memory beside the published code's, data, metrics, turnover: one table, kept
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.benchmarks

bench-data: $(VENV)/installed-dev  ## conversion, loading, batches and mapped files, about two minutes
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.benchmarks.data

soak: $(VENV)/installed-dev  ## a thousand tiny trials on a journal, SQLite and PostgreSQL: time, memory, open files
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.benchmarks.soak

# One stamp per extra of setup.cfg: `dev` for working on the project, `report` for running a study.
$(VENV)/installed-%: setup.cfg $(CONSTRAINTS)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) -c $(CONSTRAINTS) -e '.[$*]'
	touch $@

$(VENV)/lowest/constraints.txt: setup.cfg constraints.txt .ci/lowest.py
	mkdir -p $(@D)
	$(PYTHON) .ci/lowest.py >$@

clean:  ## what the targets above made, except results/
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
