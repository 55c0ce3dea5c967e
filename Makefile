# Each target installs what it needs into $(VENV), once; all it takes is Python 3.11+ and make.

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
CUPY   ?= cupy-cuda13x; sys_platform == "linux"

BACKEND      ?=
DEMO_ARGS    ?=
PYTEST_ARGS  ?=
MUTATION     ?=
FUZZ_ARGS    ?=
JOBS         ?= 2
PYTHONS      ?= python3.11 python3.12 python3.13 python3.14
BENCH_ARGS   ?=
PEERS        ?= peers
BASE         ?= HEAD~1
COMPARE_ARGS ?=
GPU_ARGS     ?=

BIN := $(VENV)/bin
# Bytecode is written when a module is first imported: all of it would be 0.4 GB, most of it never used.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q --no-compile

# PyTorch and CuPy come by requirement, so that a variable picks the build; all else by extra.
torch    := $(if $(TORCH),$(VENV)/.torch)
cupy     := $(if $(CUPY),$(VENV)/.cupy)
timm     := $(if $(TORCH),$(VENV)/.timm)
trainers := $(if $(TORCH),$(shell printf ,)trainers)
test_env := $(torch) $(cupy) $(VENV)/.extras-lint,test$(trainers) $(timm)
whole    := $(VENV)/.extras-test-all

# The tests of a file, or of a class, stay in one process: they share what is compiled. Products of
# NumPy stay in one thread, and threads of OpenMP sleep when they have nothing to do: others would
# wait for work on the cores on which other processes compute.
pytest := OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS) --dist loadscope

bench_extras := bench$(addprefix $(shell printf ,),$(PEERS))
demo_extras  := cli,plot$(addprefix $(shell printf ,),$(filter jax,$(BACKEND)))
demo_backend := $(if $(filter torch,$(BACKEND)),$(torch)) $(if $(filter cupy,$(BACKEND)),$(cupy))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-all mutations fuzz fuzz-readers lint docs bench bench-compare gpu wheel-test release-check clean

help: ## Show this text
	@echo 'Usage: make TARGET [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables:'
	@echo '  PYTHON        the Python that makes the environment ($(PYTHON))'
	@echo '  VENV          the environment ($(VENV))'
	@echo '  TORCH         the PyTorch requirement; empty: without PyTorch ($(TORCH))'
	@echo '  CUPY          the CuPy requirement; empty: without CuPy ($(CUPY))'
	@echo '  BACKEND       the library of the demo: numpy, torch, jax or cupy (numpy)'
	@echo '  DEMO_ARGS     more arguments for `agclip demo`'
	@echo '  PYTEST_ARGS   more arguments for pytest in `test` and `test-all`'
	@echo '  MUTATION      a word in the names of the lines that `mutations` breaks; empty: all'
	@echo '  FUZZ_ARGS     more arguments for `fuzz` (--trees, --seconds, --seed, --number) and `fuzz-readers`'
	@echo '  JOBS          the processes that share the tests ($(JOBS))'
	@echo '  PYTHONS       the Pythons that `release-check` tries; those that are not there are left out'
	@echo '  BENCH_ARGS    more arguments for pytest in `bench`'
	@echo '  PEERS         the extra that brings more libraries to `bench`; empty: none ($(PEERS))'
	@echo '  BASE          the revision that `bench-compare` compares with ($(BASE))'
	@echo '  COMPARE_ARGS  more arguments for `bench-compare`'
	@echo '  GPU_ARGS      more arguments for `gpu`: --budget SECONDS, --only WORDS, --out FOLDER, --rehearse'

demo: $(demo_backend) $(VENV)/.extras-$(demo_extras) ## Train a small network with and without clipping, and plot it
	$(strip $(BIN)/agclip demo $(if $(BACKEND),--backend $(BACKEND)) $(DEMO_ARGS))

test: lint ## Check the code, then run the tests
	$(pytest) $(PYTEST_ARGS)

test-all: lint $(whole) ## Check the code, then run every test, with more libraries
	$(pytest) -m 'whole or not whole' $(PYTEST_ARGS)

mutations: $(test_env) ## Break lines one by one in a copy, and fail if the tests do not see it
	$(BIN)/python tests/mutations.py $(MUTATION)

fuzz: $(test_env) ## Compare results on random trees with exact arithmetic
	AGCLIP_CONFIG=none $(BIN)/python tests/fuzz.py $(FUZZ_ARGS)

fuzz-readers: $(test_env) $(VENV)/.atheris ## Fuzz the readers of files and logs, guided by coverage
	for target in files logs; do $(BIN)/python tests/fuzz_readers.py $$target $(FUZZ_ARGS) || exit 1; done

lint: $(test_env) ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
ifneq ($(strip $(TORCH)),)
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
else
	@echo 'Types are not checked: those of what builds on PyTorch come with it'
endif

docs: $(VENV)/.extras-docs ## Build the documentation into docs/_build/html
	$(BIN)/python -m sphinx -n -W --keep-going -b html docs docs/_build/html

bench: $(torch) $(VENV)/.extras-$(bench_extras) ## Measure agclip against other clippers
	$(BIN)/python -m pytest bench --benchmark-only $(BENCH_ARGS)

bench-compare: $(torch) $(VENV)/.extras-bench ## Fail if the last commit is slower than BASE
	$(BIN)/python -m bench.compare '$(BASE)' $(COMPARE_ARGS)

gpu: $(test_env) $(VENV)/.extras-bench ## Run every check and benchmark that needs a GPU on this machine's
	$(BIN)/python -m bench.gpu.whole $(GPU_ARGS)

# The checkout would be imported before the installed package, so nothing runs from within it.
wheel-test: $(VENV)/.build ## Build the wheel, then run the conformance suite on it elsewhere
	rm -rf dist
	$(BIN)/python -m build
	@set -eu; \
	away=$$(mktemp -d); \
	trap 'rm -rf "$$away"' EXIT; \
	trap 'exit 1' HUP INT TERM; \
	wheel=$$(ls "$(CURDIR)"/dist/agclip-*.whl); \
	echo "Installing $$wheel into a new environment"; \
	$(PYTHON) -m venv "$$away/venv"; \
	cd "$$away"; \
	unset PYTHONPATH; \
	export PIP_DISABLE_PIP_VERSION_CHECK=1; \
	for requirement in '$(TORCH)' '$(CUPY)' "$$wheel[test]"; do \
		test -z "$$requirement" || venv/bin/python -m pip install -q "$$requirement"; \
	done; \
	venv/bin/python -c 'import agclip, agclip_backends as b; print(agclip.__file__, b.__file__)' \
		| grep 'site-packages/agclip/.* .*site-packages/agclip_backends/'; \
	AGCLIP_ACCELERATE=numba venv/bin/python -m agclip.testing

# With what a user gets who has nothing else: NumPy and array-api-compat.
release-check: $(VENV)/.build ## Install sdist and wheel in empty environments, on every Python here
	rm -rf dist
	$(BIN)/python -m build
	@set -eu; \
	away=$$(mktemp -d); \
	trap 'rm -rf "$$away"' EXIT; \
	trap 'exit 1' HUP INT TERM; \
	cd "$$away"; \
	unset PYTHONPATH; \
	export PIP_DISABLE_PIP_VERSION_CHECK=1; \
	for python in $(PYTHONS); do \
		"$$python" -c '' 2> /dev/null || { echo "$$python is not here"; continue; }; \
		for file in "$(CURDIR)"/dist/agclip-*; do \
			echo "$$python: $${file##*/}"; \
			rm -rf venv; \
			"$$python" -m venv venv; \
			venv/bin/python -m pip install -q "$$file"; \
			venv/bin/python -m agclip.testing numpy; \
			venv/bin/python "$(CURDIR)/examples/numpy_loop.py"; \
		done; \
	done

clean: ## Remove all that make has made here
	rm -rf .venv dist docs/_build .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c '' || \
		{ echo 'PYTHON must name a Python that runs; got $(PYTHON).' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'agclip needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.made
	$(PIP) '$(TORCH)'
	@touch $@

$(VENV)/.cupy: $(VENV)/.made
	$(PIP) '$(CUPY)'
	@touch $@

# Without torchvision, which timm asks for: it works only in the build that goes with PyTorch's, and
# nothing that is tested needs it. One of another build cannot be imported, and takes Lightning along.
$(VENV)/.timm: $(VENV)/.made
	$(PIP) --no-deps 'timm>=1.0'
	@touch $@

$(VENV)/.atheris: $(VENV)/.made
	$(PIP) 'atheris>=3.0'
	@touch $@

$(VENV)/.build: $(VENV)/.made
	$(PIP) build
	@touch $@

# The extras of pyproject.toml, separated by commas, beside an editable install.
$(VENV)/.extras-%: pyproject.toml $(VENV)/.made
	$(PIP) -e '.[$*]'
	@touch $@
