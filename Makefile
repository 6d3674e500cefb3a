# Aurora Swarm. `make demo` and `make test` need Python >= 3.11 and nothing else; both set themselves up.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
FLOOR := import sys; sys.exit(sys.version_info < (3, 11))
# The first that works: a name can be on the PATH and still not run (version managers leave such stubs).
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c '$(FLOOR)' >/dev/null 2>&1 && { echo "$$p"; exit; }; done)
# Material for MkDocs announces its successor at every build; decisions/0007 has what we make of it.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.PHONY: help demo test check docs pytest chaos bench lock clean runtime dev python

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: runtime ## set up, then run a batch of agents on the embedded model
	@$(BIN)/aurora-swarm demo

test: check docs pytest ## set up, then run everything that must hold: checks, documentation, tests

check: dev ## formatting, lint, types, layers, lengths
	@$(BIN)/python scripts/check.py

docs: dev ## build the documentation into site/, warnings are errors
	@echo "docs: building into site/"
	@$(MKDOCS) build --strict
	@echo "docs: ok"

pytest: dev
	@$(BIN)/python -m pytest -n 2

chaos: dev ## run the long fault tests: every crash, every damaged byte, a thousand kills (half an hour)
	@$(BIN)/python -m pytest -m chaos

bench: dev ## run the benchmarks (half an hour; VLLM=DIR for those on vLLM)
	@for f in benchmarks/bench_*.py; do echo "bench: $$f"; AURORA_BENCH_VLLM="$(or $(VLLM),$(AURORA_BENCH_VLLM))" $(BIN)/python "$$f" || exit 1; done
	@$(BIN)/python benchmarks/write_page.py

LOCK := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml requirements/build.in --extra local

lock: dev ## resolve requirements/*.txt anew; UPGRADE=--upgrade takes the newest of everything
	@echo "lock: resolving requirements/dev.txt and requirements/runtime.txt"
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) $(UPGRADE) --extra dev -o requirements/dev.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) -c requirements/dev.txt -o requirements/runtime.txt

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) .bench site build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

runtime dev: python
	@$(PYTHON) scripts/bootstrap.py $@

python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed, and none was found on the PATH." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
