# Kronos Live: `make help` lists what there is.

# Any Python 3.11 or 3.12 (3.13 and later where a redis-server is on the PATH); `make PYTHON=/path/to/python ...` to choose.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

# Where torch comes from: PyTorch's index of builds without CUDA. Empty for pip's own configuration, or another index for CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell sed -n 's/.*"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)

# How many files of tests go on at once. They mostly wait for services that they have started.
TEST_PROCESSES ?= 2

DEMO_PORT ?= 8000
DEMO_FOLDER ?= .demo

.DEFAULT_GOAL := help
.PHONY: help venv venv-dev demo test test-faults check format bench screenshots lock clean

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.running $(VENV)/.kernels  ## the environment with what running needs, in .venv

venv-dev: $(VENV)/.developing $(VENV)/.kernels  ## the same with the developers' tools

$(VENV)/.running: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Kronos Live needs Python 3.11 or 3.12 as python3, python3.12 or python3.11; or name one: make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (torch from $(if $(TORCH_INDEX),$(TORCH_INDEX),pip's own index))"
	@$(BIN)/pip install --quiet --disable-pip-version-check --retries 1 --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ingest,inference,web,publish,alerts,demo]'
	@touch $@

# Compiled where there is a C++ compiler; where there is none, torch does their work.
$(VENV)/.kernels: $(VENV)/.running $(wildcard services/inference/native/*.py services/inference/native/source/*)
	@$(BIN)/python -m services.inference.native --if-possible
	@touch $@

$(VENV)/.developing: $(VENV)/.running
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ingest,inference,garch,web,publish,alerts,client,demo,dev]'
	@touch $@

demo: venv  ## everything on http://127.0.0.1:8000 (DEMO_PORT), until Ctrl+C; data in .demo (DEMO_FOLDER)
	@exec $(BIN)/kronos-live demo --port $(DEMO_PORT) --folder $(DEMO_FOLDER)

test: venv-dev  ## the test suite, against real Redises of its own, TEST_PROCESSES (2) files at once; slow faults apart
	@$(BIN)/python -m pytest -m "not slow and not alone" --numprocesses $(TEST_PROCESSES) --dist loadfile
	@$(BIN)/python -m pytest -m alone

test-faults: venv-dev  ## kill, pause, fill and cut a running stack; says how long each recovery took
	@$(BIN)/python -m pytest tests/faults

check: venv-dev  ## ruff, bandit, mypy --strict and the arrows between the rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive benchmarks services shared
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: venv-dev  ## let ruff put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: venv-dev  ## the shared-prefix sampler beside the slow oracle, in one run
	@$(BIN)/python -m benchmarks.sampling --random-weights --against-reference

screenshots: venv-dev  ## take README's pictures anew (docs/images), of a stack on simulated klines; needs chromium and fonts-noto-cjk
	@KRONOS_REQUIRE=browser $(BIN)/python -m pytest --quiet tests/browser/test_pictures.py -k "not readme"
	@mkdir -p docs/images && cp build/screenshots/readme/*.webp docs/images/

lock: venv-dev  ## write constraints.txt anew with the newest releases that fit pyproject.toml
	@$(BIN)/pip-compile --quiet --upgrade --all-extras --strip-extras --no-header --annotation-style=line \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --unsafe-package torch \
		--output-file constraints.txt pyproject.toml

clean:  ## remove the environment and the caches (not the demo's data)
	rm -rf $(VENV) services/inference/native/built .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
