# make run     makes .venv, installs the project with the versions of constraints.txt and runs the demo
# make test    the whole test suite (slow tests too)
# make check   the quick part: what lint does, and the tests that are not slow
# make lint    ruff, import-linter, mypy --strict
# make format  lets ruff rewrite the code
# make faults  kills the daemon 200 times under load, fails its disk, overloads it for ten minutes, and lives
#              through a day of 10,000 frames (docs/robustness.md)
# make soak    an hour (SOAK_SECONDS) of daemon in a world that changes fast: does it grow?
# make fuzz    100,000 (FUZZ_INPUTS) damaged inputs to everything that reads what comes from outside
# make docs    builds these pages as a site in site/, to be read without a network (docs/decisions.md says by what)
# make coverage   which lines the tests run (docs/testing.md says which they do not); PYTEST_ARGS='-m "not slow"' is quick
# make flaky   runs the slow part of the tests TIMES times and counts the failures
# make release-check   builds wheel and sdist and tries the wheel in new environments (CONTRIBUTING.md)
# make clean   removes .venv and everything else that was made here
#
# make install-service    installs the service for systemd (docs/installation.md); as root, and again to upgrade
# make uninstall-service  removes it; what it learnt and how it is configured stay
#
# Variables:
#   PYTHON=python3.12      the interpreter that .venv is made from; 3.10 or newer
#   TORCH_INDEX_URL=URL    where torch comes from. On x86 Linux, PyPI's wheel brings gigabytes of CUDA along;
#                          a machine without an NVIDIA card wants https://download.pytorch.org/whl/cpu
#   DEMO_ARGS="--seed 1"   options for `dance-ondevice demo`
#   PYTEST_ARGS="-k wire"  options for pytest
#   FAULT_KILLS=200 DAY_FRAMES=10000 OVERLOAD_SECONDS=600 SOAK_SECONDS=3600 FUZZ_INPUTS=100000   how much of it
#   FAULT_PRIORITY=normal  the priority of rounds in faults and soak: on a machine that other work keeps busy,
#                          those in the background get no time at all
#   TIMES=20               how often flaky runs the slow tests
#   RELEASE_PYTHONS="python3.10 python3.12"   what release-check tries the wheel with, instead of all that are there
#   OUT=FILE.json          where faults or soak write their figures, as a result for docs/benchmarks
#   PREFIX=DIR             where install-service puts its virtual environment; /opt/dance-ondevice if not given
#   BINDIR=DIR             where it links the command; /usr/local/bin if not given
#   DESTDIR=DIR            a staging folder that install-service puts before every path
#   PIP_ARGS="--no-index"  options for install-service's calls of pip

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX_URL ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=
FAULT_KILLS ?= 200
DAY_FRAMES ?= 10000
OVERLOAD_SECONDS ?= 600
FAULT_PRIORITY ?= background
SOAK_SECONDS ?= 3600
FUZZ_INPUTS ?= 100000
TIMES ?= 20
RELEASE_PYTHONS ?=
OUT ?=
PREFIX ?= /opt/dance-ondevice
BINDIR ?= /usr/local/bin
DESTDIR ?=
PIP_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
# Processes of one thread each: as many as there are cores for the quick tests, which compute, and two more for all
# of them, since those that start daemons mostly wait. Neighbouring tests stay in one process, which makes what they
# share once.
CORES = $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 1)
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist worksteal
ALL = -n $$(($(CORES) + 2))
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)
BUILD_HINT := If the last lines above speak of a missing compiler or of Python.h: apt install build-essential python3-dev

# OpenMP's threads spin while they wait unless told otherwise, which a machine that does two things at once pays
# for twice.
export OMP_WAIT_POLICY ?= PASSIVE

# Containers often forbid Python to keep what it compiled. The tests start some hundreds of processes, each of which
# would compile the whole package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test check lint format faults soak fuzz docs coverage flaky release-check clean install-service uninstall-service

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

run: $(VENV)/.stamp-run
	$(BIN)/dance-ondevice demo $(DEMO_ARGS)

test: $(VENV)/.stamp-test
	$(PYTEST) $(ALL) $(PYTEST_ARGS)

check: lint
	$(PYTEST) -n $(CORES) -m "not slow" $(PYTEST_ARGS)

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.stamp-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: $(VENV)/.stamp-test
	DANCE_FAULT_KILLS=$(FAULT_KILLS) DANCE_DAY_FRAMES=$(DAY_FRAMES) DANCE_OVERLOAD_SECONDS=$(OVERLOAD_SECONDS) \
	  DANCE_FAULT_PRIORITY=$(FAULT_PRIORITY) \
	  DANCE_FAULTS_OUT="$(OUT)" $(BIN)/python -m pytest tests/faults -s $(PYTEST_ARGS)

soak: $(VENV)/.stamp-test
	$(BIN)/python tests/faults/soak.py --seconds $(SOAK_SECONDS) --priority $(FAULT_PRIORITY) $(if $(OUT),--out "$(OUT)")

fuzz: $(VENV)/.stamp-test
	$(BIN)/python tests/fuzz/fuzz_run.py --inputs $(FUZZ_INPUTS)
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest tests/fuzz --timeout 0 $(PYTEST_ARGS)

docs: $(VENV)/.stamp-test
	$(BIN)/python docs/sphinx/build.py site

# Processes that tests start are measured as well; what is killed leaves no figures.
coverage: $(VENV)/.stamp-test
	rm -rf .cache/coverage
	$(PYTEST) $(ALL) --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/python -m coverage report

flaky: $(VENV)/.stamp-test
	@failed=0; for time in $$(seq $(TIMES)); do \
	  $(PYTEST) $(ALL) -q -m slow $(PYTEST_ARGS) || failed=$$((failed + 1)); \
	done; echo "$$failed of $(TIMES) runs of the slow tests failed"; test $$failed = 0

release-check: $(VENV)/.stamp-test
	$(PIP) install --quiet -c constraints.txt --no-build-isolation -e '.[release]'
	TORCH_INDEX_URL='$(TORCH_INDEX_URL)' $(BIN)/python tests/release/release_check.py $(RELEASE_PYTHONS)

clean:
	rm -rf $(VENV) .cache build dist site demo-report *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install-service uninstall-service:
	@PREFIX='$(PREFIX)' BINDIR='$(BINDIR)' DESTDIR='$(DESTDIR)' PYTHON='$(PYTHON)' PIP_ARGS='$(PIP_ARGS)' \
	  TORCH_INDEX_URL='$(TORCH_INDEX_URL)' sh systemd/install.sh $(@:-service=)

# Each stamp says that what its name stands for is installed; it is older than a file it depends on = install again.
$(VENV)/.stamp-venv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: there is no '$(PYTHON)' here; on Debian or Ubuntu: apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), Python 3.10 or newer is needed; name one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt pip setuptools wheel
	@touch $@

# torch comes by itself first: a range would let pip take the newest build, and only torch may need another index.
$(VENV)/.stamp-torch: $(VENV)/.stamp-venv constraints.txt
	$(PIP) install $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) --no-deps $(TORCH)
	@touch $@

$(VENV)/.stamp-run: $(VENV)/.stamp-torch constraints.txt setup.cfg pyproject.toml
	$(PIP) install --quiet -c constraints.txt --no-build-isolation -e '.[console]' || { echo "make: $(BUILD_HINT)" >&2; exit 1; }
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-run
	$(PIP) install --quiet -c constraints.txt --no-build-isolation -e '.[test,lint,docs]' || { echo "make: $(BUILD_HINT)" >&2; exit 1; }
	@touch $@
