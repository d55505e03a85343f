# The two commands of a fresh machine. Each makes its own environment in .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo unit test machine wheel agents check docs clean

demo: $(VENV)/.lm          ## a real session on a real language model, on this machine, in minutes
	$(BIN)/nightlab demo

unit: $(VENV)/.dev         ## the tests that start no process: about a minute
	$(BIN)/python -m pytest -n auto --dist loadgroup -m unit

test: $(VENV)/.dev         ## the default tests: unit and integration
	$(BIN)/python -m pytest -n auto --dist loadgroup

machine: $(VENV)/.dev      ## the long suites: the kill matrix, clusters, long benchmarks
	$(BIN)/python -m pytest -m machine --ignore=tests/real_agents

MATRIX = $(BIN)/python -m pytest -m machine -rs -n auto --dist loadgroup tests/real_agents/test_the_matrix.py

agents: $(VENV)/.dev       ## real coding agents and a scripted model: a matrix of bad answers, a session; fetches 4 GB once
	mkdir -p build && rm -f build/agents.jsonl
	export NIGHTLAB_TEST_TABLE=$(abspath build/agents.jsonl); failed=0; \
	  $(MATRIX) || failed=1; NIGHTLAB_TEST_NEWEST=1 $(MATRIX) || failed=1; \
	  $(BIN)/python tests/real_agents/table.py build/agents.jsonl; exit $$failed
	$(BIN)/python -m pytest -s -m machine tests/real_agents/test_a_night_of_chaos.py

wheel: $(VENV)/bin/python  ## build a wheel, install it into an empty environment, and run a session with it
	PYTHON=$(abspath $(BIN))/python .ci/wheel

check: $(VENV)/.dev        ## lint, types, import contract
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/vocabulary.py

docs: $(VENV)/.dev         ## the docs site, in site/: every link checked, nothing fetched
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nightlab needs Python 3.11 or newer; say which: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@command -v git >/dev/null || { echo "nightlab needs git: apt install git, or brew install git"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt install python3-venv"; exit 1; }

$(VENV)/.lm: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lm]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lm,dev]'
	@touch $@

clean:                     ## remove the environment
	rm -rf $(VENV)
