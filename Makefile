# All targets use .venv and install it once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo demo-real quick test test-fast check format docs bench reproductions clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.ready ## install into .venv

$(VENV)/.ready: lock-py311.txt pyproject.toml deploy/set-up.sh
	PYTHON="$(PYTHON)" sh deploy/set-up.sh $(VENV)
	@touch $@

demo: install ## run the demo on tiny Llama models: five to eight minutes
	$(BIN)/heirloom demo

demo-real: install ## run the demo on SmolLM2, a pretrained model: about 25 minutes on two cores with bfloat16
	$(BIN)/heirloom demo --model smollm2

quick: install ## run the demo on n-gram models: under a minute
	$(BIN)/heirloom demo --quick

test: install ## run all checks and tests, as CI does
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto --dist loadgroup

test-fast: install ## run the tests without torch, server or subprocess: about a minute
	$(BIN)/python -m pytest -q -n auto --dist loadgroup --fast

check: test ## same as test

format: install ## format code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install ## regenerate the reference pages and tables
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/faults.py

bench: install ## run the benchmark of the demo
	$(BIN)/python -m benchmarks demo

reproductions: install ## repeat the published experiments: under 90 minutes, resumes if interrupted
	$(BIN)/python -m benchmarks reproductions
	$(BIN)/python docs/reference.py

clean: ## remove .venv
	rm -rf $(VENV)
