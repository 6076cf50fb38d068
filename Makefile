# Two commands do everything: `make demo` and `make test`. The rest are parts of them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo up test test-fast fuzz lint fix openapi screenshots bench-harvest bench-kills bench-llm bench-align train-demo-saes clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: $(STAMP) ## Bring up Sparsight with features of a real language model
	$(BIN)/sparsight demo

up: $(STAMP) ## Bring up Sparsight with what is in the data folder
	$(BIN)/sparsight up

test: $(STAMP) ## Everything that CI runs: style, contracts, types, tests
	@bash tools/test.sh all

test-fast: $(STAMP) ## The tests without browser and demo model
	@bash tools/test.sh fast

fuzz: $(STAMP) ## The property tests on examples that were not tried yet
	@bash tools/test.sh fuzz

lint: $(STAMP) ## Style, import contracts and types only
	@bash tools/test.sh lint

fix: $(STAMP) ## Format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: $(STAMP) ## Write openapi.json anew
	$(BIN)/python -m app.openapi > openapi.json

screenshots: $(STAMP) ## Pictures of every page: light, dark, zh, narrow
	$(BIN)/python tools/screenshots.py

bench-harvest: $(STAMP) ## Speed, memory and bytes of a harvest
	$(BIN)/python -m bench.harvest

bench-kills: $(STAMP) ## A harvest under kill -9, compared row for row
	$(BIN)/python -m bench.kills

bench-llm: $(STAMP) ## Request rate against a server of fixed latency
	$(BIN)/python -m bench.llm

bench-align: $(STAMP) ## Saved bytes, step time and memory of the losses
	$(BIN)/python -m bench.align

train-demo-saes: $(STAMP) ## Train the demo SAE anew (about an hour on 2 idle cores)
	$(BIN)/python -m worker.sae_training

clean: ## Remove the environment and caches; the data folder stays
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): requirements.lock pyproject.toml tools/install.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/install.sh
	@touch $@
