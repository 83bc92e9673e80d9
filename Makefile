# All tools live in .venv; a target (re-)installs only when a pyproject.toml or constraints.txt changed.
# On a machine with Python >= 3.11, pip and make nothing else is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

PIP := $(BIN)/python -m pip
INSTALL := $(PIP) install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt

# What a user of the LangGraph adapter installs, and then the rest.
QUICKSTART := -e gate -e client -e 'adapters/langgraph[langgraph]'
EVERYTHING := $(QUICKSTART) -e adapters/crewai -e adapters/autogen

# The oldest AutoGen that is supported, over the newest: tests start programs with each.
AUTOGEN := $(VENV)/autogen-oldest

# CrewAI cannot be installed beside the rest: tests start programs in an environment that has it.
CREWAI := $(VENV)/crewai

# The oldest LangGraph that is supported: tests start programs that find it before the newest.
LANGGRAPH := $(VENV)/langgraph-oldest

# The client's tests run on Python 3.10 as well, on which there is no gate.
CLIENT_PYTHON ?= python3.10
CLIENT := $(VENV)/client-$(notdir $(CLIENT_PYTHON))

# Never run: mypy and pyright read in them which types users rely on.
TYPING := $(wildcard tests/*/typing_*.py tests/adapters/*/typing_*.py)

PYPROJECTS := $(wildcard pyproject.toml gate/pyproject.toml client/pyproject.toml adapters/*/pyproject.toml)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup quickstart test test-client lint format bench compare clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.setup ## install everything into .venv

quickstart: $(VENV)/.quickstart ## install what the quickstart needs and run it
	@$(BIN)/python examples/quickstart.py $(ARGS)

test: $(VENV)/.setup $(CREWAI)/.setup $(LANGGRAPH)/.setup $(AUTOGEN)/.setup ## run all tests (ARGS='-k word' to choose)
	@$(BIN)/python -m pytest $(ARGS)

# The gate that these tests start is the one in .venv: a client of another Python finds it on PATH.
test-client: $(VENV)/.setup $(CLIENT)/.setup ## run the client's tests on CLIENT_PYTHON=python3.10
	@PATH="$(abspath $(BIN)):$$PATH" $(CLIENT)/bin/python -m pytest -p no:cacheprovider tests/client $(ARGS)

lint: $(VENV)/.setup ## check style, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy gate/src
	$(BIN)/mypy --python-version 3.10 client/src adapters/langgraph/src adapters/crewai/src adapters/autogen/src \
	  $(TYPING)
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.setup ## format the code and apply safe fixes
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

bench: $(VENV)/.setup ## measure against the floors (ARGS=--quick for a minute)
	@$(BIN)/python benchmarks/run.py $(ARGS)

compare: $(VENV)/.setup $(CREWAI)/.setup ## run the comparison with other hooks, write docs/comparison.md
	@PYTHONPATH=tests $(BIN)/python -m comparison --write $(ARGS)

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf dist gate/dist client/dist adapters/*/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The interpreter's own pip fills the environment: `python -m venv` alone needs a package of its own on Debian.
$(VENV)/.tools: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Toolgate needs Python 3.11 or newer; '$(PYTHON)' is older or missing." >&2; \
	  echo "       Choose another with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Installing into $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check -c constraints.txt pip hatchling editables
	@touch $@

$(VENV)/.quickstart: $(VENV)/.tools constraints.txt $(PYPROJECTS)
	@$(INSTALL) --group examples $(QUICKSTART)
	@touch $@

$(CREWAI)/.setup: $(VENV)/.tools tests/lodestar/crewai.txt
	@echo "Installing CrewAI into $(CREWAI) …"
	@test -x $(CREWAI)/bin/python || $(PYTHON) -m venv --without-pip $(CREWAI)
	@$(PIP) --python $(CREWAI)/bin/python install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
	  -r tests/lodestar/crewai.txt
	@rm -rf $(CREWAI)/oldest
	@$(PIP) install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target $(CREWAI)/oldest \
	  crewai==1.15.0 crewai-core==1.15.0
	@touch $@

$(LANGGRAPH)/.setup: $(VENV)/.tools
	@echo "Installing the oldest LangGraph into $(LANGGRAPH) …"
	@rm -rf $(LANGGRAPH)
	@$(PIP) install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target $(LANGGRAPH) \
	  langchain-core==1.2.10 langchain==1.2.13 langgraph==1.1.6 langgraph-prebuilt==1.0.10 langgraph-sdk==0.3.12 \
	  langgraph-checkpoint==4.0.0 langgraph-checkpoint-sqlite==3.0.3
	@touch $@

$(AUTOGEN)/.setup: $(VENV)/.setup
	@rm -rf $(AUTOGEN)
	@$(PIP) install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target $(AUTOGEN) \
	  autogen-agentchat==0.7.0 autogen-core==0.7.0
	@touch $@

$(CLIENT)/.setup: $(VENV)/.tools constraints.txt pyproject.toml client/pyproject.toml
	@echo "Installing into $(CLIENT) …"
	@test -x $(CLIENT)/bin/python || $(CLIENT_PYTHON) -m venv --without-pip $(CLIENT)
	@$(PIP) --python $(CLIENT)/bin/python install --quiet --disable-pip-version-check -c constraints.txt hatchling editables
	@$(PIP) --python $(CLIENT)/bin/python install --quiet --disable-pip-version-check --no-build-isolation \
	  -c constraints.txt --group client -e client
	@touch $@

$(VENV)/.setup: $(VENV)/.tools constraints.txt $(PYPROJECTS)
	@$(INSTALL) --group dev $(EVERYTHING)
	@touch $(VENV)/.quickstart $@
