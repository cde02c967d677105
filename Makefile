# One target an arrow: raw -> data -> train -> predict -> evaluate -> report. `make help` lists them.
# Every step names the files it reads and writes, so nothing is done twice. Another run: make report CONFIG=configs/hm.yaml

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CONFIG ?= configs/demo.yaml
PYTEST_WORKERS ?= 2
# Of make bench-peers: minutes that each may take to choose and fit, and which; those that fit the data by default.
MINUTES ?= 15
PEERS ?=

BIN := .venv/bin
RECSYS := $(BIN)/recsys
READY := .venv/.ready
PEERS_READY := .venv-peers/.ready
setting = $(shell sed -n 's/^$(1): *\([^ \#]*\).*/\1/p' $(CONFIG) 2>/dev/null | head -1)
# A file in the flat form of the published model_config.yaml names neither: it means the published decoder on ids.
FLAT := $(shell grep -lE '^(lr|epochs|batch_size|seq_max_len|hidden_size|num_heads|num_layers|num_embeds):' $(CONFIG) 2>/dev/null)
RUN := $(or $(call setting,name),$(if $(FLAT),original_id),default)
DATA := $(or $(call setting,  name),$(call setting,  source),$(if $(FLAT),hm-split),completejourney)

MANIFEST := data/processed/$(DATA)/manifest.json
WEIGHTS := models/$(RUN)/weights.safetensors
LISTS := reports/$(RUN)/recommendations/.done
METRICS := reports/$(RUN)/metrics.json
REPORT := reports/$(RUN)/index.html

.PHONY: help setup demo data train predict evaluate report test cases check lint format requirements readme readme-table docs \
	docs-tables bench-data bench-forms bench-inspect bench-selection bench-speed bench-scale bench-serve bench-serve-sizes bench-attention bench-generate bench-promotions \
	bench-quality bench-peers ablation clean

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
	$(BIN)/python -m pip install --quiet --editable '.[demo,dev,docs,hm,spark,sql,text]'
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
	$(RECSYS) report --reasons --run $(RUN) --force

test: $(READY) ## all tests and doctests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS)

cases: $(READY) ## the run.sh of every folder of RECSYS_CASES: one line each; fails where one prints FAIL
	$(BIN)/python -m tools.cases $(CURDIR)

check: lint docs ## lint, types, layers, spelling, documentation

lint: $(READY) ## ruff, flake8, mypy, import-linter, codespell, limits of size and wording
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m tools.house

format: $(READY) ## let ruff mend and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-tables: $(READY) ## write the tables of commands, configuration and column map into their pages
	$(BIN)/python -m tools.pages --write

requirements: $(READY) ## pin what is installed now in requirements.txt
	$(BIN)/python -m tools.requirements

readme: $(METRICS) ## put the demo's closing lines into README.md
	$(BIN)/python -m tools.summary $(RUN) --write README.md

readme-table: $(READY) ## put the decoder beside the best other system, from benchmarks/results, into docs/results.md
	$(BIN)/python -m tools.quality_table --write docs/results.md

bench-data: $(READY) ## time and memory of preparing full-size H&M data
	$(BIN)/python -m benchmarks.data

bench-scale: $(READY) ## seconds and memory of each stage at H&M's full size, made up; EPOCHS=1
	$(BIN)/python -m benchmarks.scale $(if $(EPOCHS),--epochs $(EPOCHS))

bench-serve: $(READY) ## the service beside its bare model part, and what it survives; an hour: [WORK=folder]
	$(BIN)/python -m benchmarks.serve $(if $(WORK),--work $(WORK))

bench-serve-sizes: $(READY) ## start, memory and lists a second of the service by the size of the shop: [WORK=folder]
	$(BIN)/python -m benchmarks.serve_sizes $(if $(WORK),--work $(WORK))

bench-forms: $(READY) ## purchases written in any mixture of forms: whether all come back, or are asked about
	$(BIN)/python -m benchmarks.forms

bench-inspect: $(READY) ## whether `recsys inspect` reads real files of shops at the first try (RECSYS_REAL_DATA)
	$(BIN)/python -m benchmarks.inspecting

bench-selection: $(READY) ## whether `dataset main --split` keeps what pandas keeps, at H&M's full size
	$(BIN)/python -m benchmarks.selection

bench-speed: $(READY) $(PEERS_READY) ## how fast training is, beside RecTools and beside a bare loop (RECSYS_REAL_DATA)
	$(BIN)/python -m benchmarks.speed

bench-attention: $(READY) ## time and memory of whole and of local attention at lengths up to 8,192
	$(BIN)/python -m benchmarks.attention

bench-generate: $(READY) ## what longer continuations cost, with keys and values kept and without
	$(BIN)/python -m benchmarks.generation

bench-promotions: $(READY) ## whether Complete Journey's promotions are plans and not sales
	$(BIN)/python -m benchmarks.promotions

bench-quality: $(READY) ## the decoder against every rule: DATA=hm_week [SEEDS="42 43 44", or none] [WORK=folder] [JOBS=2] [PEER_LISTS=folder]
	$(BIN)/python -m benchmarks.quality $(DATA) $(if $(SEEDS),--seeds "$(SEEDS)") \
		$(if $(WORK),--work $(WORK)) $(if $(JOBS),--jobs $(JOBS)) $(if $(PEER_LISTS),--peers $(PEER_LISTS))

ablation: $(READY) ## what each part of the decoder is worth: [DATA=online_retail] [SEEDS="42 43 44"] [VARIANTS="no_attributes"] [WORK=folder] [JOBS=2]
	$(BIN)/python -m benchmarks.ablation $(or $(DATA),completejourney) $(if $(SEEDS),--seeds "$(SEEDS)") \
		$(if $(VARIANTS),--variants "$(VARIANTS)") $(if $(WORK),--work $(WORK)) $(if $(JOBS),--jobs $(JOBS))

bench-peers: $(READY) $(PEERS_READY) ## recommenders of other libraries on our split; DATA=completejourney, online_retail, beauty, ml-1m
	$(BIN)/python -m benchmarks.peers export $(DATA) data/interim/peers/$(DATA)
	.venv-peers/bin/python benchmarks/peers/run.py data/interim/peers/$(DATA) --minutes $(MINUTES) \
		$(if $(PEERS),--peers $(PEERS))
	$(BIN)/python -m benchmarks.peers score data/interim/peers/$(DATA)

# Their pins have wheels for Python 3.11 and 3.12.
$(PEERS_READY): benchmarks/peers/requirements.txt | $(READY)
	@[ -x .venv-peers/bin/python ] || $(BIN)/python -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --requirement $<
	@touch $@

clean: ## remove caches, the built documentation, and what was made for this one configuration (CONFIG=...)
	rm -rf data/processed/$(DATA) models/$(RUN) reports/$(RUN) site build dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
