# One target an arrow: raw -> data -> train -> predict -> evaluate -> report. `make help` lists them.
# Every step names the files it reads and writes, so nothing is done twice. Another run: make report CONFIG=configs/hm.yaml

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CONFIG ?= configs/demo.yaml
PYTEST_WORKERS ?= 2

BIN := .venv/bin
RECSYS := $(BIN)/recsys
READY := .venv/.ready
setting = $(shell sed -n 's/^$(1): *\([^ \#]*\).*/\1/p' $(CONFIG) 2>/dev/null | head -1)
RUN := $(or $(call setting,name),default)
DATA := $(or $(call setting,  name),$(call setting,  source),completejourney)

MANIFEST := data/processed/$(DATA)/manifest.json
WEIGHTS := models/$(RUN)/weights.safetensors
LISTS := reports/$(RUN)/recommendations/.done
METRICS := reports/$(RUN)/metrics.json
REPORT := reports/$(RUN)/index.html

.PHONY: help setup demo data train predict evaluate report test check lint format requirements readme docs bench-data \
	bench-train bench-quality clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(READY) ## make .venv and install everything into it

# The stamp is newer than what it was made from; the virtual environment itself is never thrown away here.
$(READY): requirements.txt pyproject.toml
	@if [ ! -x $(BIN)/python ]; then \
		for python in $${PYTHON:-python3 python3.13 python3.12 python3.11}; do \
			if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$${found:-}" ]; then \
			echo "found $$(python3 --version 2>&1 || echo 'no python3'), expected Python 3.11 or later;" \
				"install one and run: PYTHON=/path/to/python3 make setup" >&2; exit 1; \
		fi; \
		$$found -m venv .venv; \
	fi
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --editable '.[demo,dev,docs,hm,rerank,text]'
	@touch $@

demo: $(REPORT) ## everything once, on Complete Journey: data, training, lists, metrics, report
	@$(BIN)/python -m tools.summary $(RUN)

data: $(MANIFEST) ## raw purchases -> data/processed
$(MANIFEST): $(CONFIG) | $(READY)
	$(RECSYS) dataset main --config $(CONFIG) --force

train: $(WEIGHTS) ## data/processed -> models/<run>
$(WEIGHTS): $(MANIFEST) $(CONFIG) | $(READY)
	$(RECSYS) train --config $(CONFIG) --force

predict: $(LISTS) ## models/<run> -> lists of all systems for each test week, and for the day after the data
$(LISTS): $(WEIGHTS) | $(READY)
	$(RECSYS) predict --folds --run $(RUN) --force
	$(RECSYS) predict --run $(RUN) --force
	@touch $@

evaluate: $(METRICS) ## lists and what was bought -> reports/<run>/metrics.json
$(METRICS): $(LISTS) | $(READY)
	$(RECSYS) evaluate --run $(RUN) --force

report: $(REPORT) ## metrics, logs and lists -> reports/<run>/index.html
$(REPORT): $(METRICS) | $(READY)
	$(RECSYS) report --run $(RUN) --force

test: $(READY) ## all tests and doctests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS)

check: lint docs ## lint, types, layers, spelling, documentation

lint: $(READY) ## ruff, flake8, mypy, import-linter, codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(READY) ## let ruff mend and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

requirements: $(READY) ## pin what is installed now in requirements.txt
	$(BIN)/python -m tools.requirements

readme: $(METRICS) ## put the demo's closing lines into README.md
	$(BIN)/python -m tools.summary $(RUN) --write README.md

bench-data: $(READY) ## time and memory of preparing full-size H&M data
	$(BIN)/python -m benchmarks.data

bench-train: $(READY) ## events per second of training
	$(BIN)/python -m benchmarks.train

bench-quality: $(READY) ## the decoder against every rule: DATA=hm_week [SEEDS="42 43 44"] [WORK=folder] [PEERS=folder]
	$(BIN)/python -m benchmarks.quality $(DATA) $(if $(SEEDS),--seeds "$(SEEDS)") \
		$(if $(WORK),--work $(WORK)) $(if $(PEERS),--peers $(PEERS))

clean: ## remove caches, the built documentation, and what was made for this one configuration (CONFIG=...)
	rm -rf data/processed/$(DATA) models/$(RUN) reports/$(RUN) site build dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
