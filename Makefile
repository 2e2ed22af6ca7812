# Everything happens in .venv; a second make installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo quick test check format docs bench reproductions clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.ready ## set everything up in .venv

$(VENV)/.ready: lock-py311.txt pyproject.toml deploy/set-up.sh
	PYTHON="$(PYTHON)" sh deploy/set-up.sh $(VENV)
	@touch $@

demo: install ## collapse, and no collapse, on real models: five to eight minutes
	$(BIN)/heirloom demo

quick: install ## the same story by counting words: under a minute
	$(BIN)/heirloom demo --quick

test: install ## what the README promises, checked
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: test ## the same

format: install ## put code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install ## write the reference pages and tables again
	$(BIN)/python docs/reference.py

bench: install ## the demo's figures
	$(BIN)/python -m benchmarks demo

reproductions: install ## the published experiments beside ours: under 90 minutes; goes on where it stood
	$(BIN)/python -m benchmarks reproductions
	$(BIN)/python docs/reference.py

clean: ## remove .venv
	rm -rf $(VENV)
