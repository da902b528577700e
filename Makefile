# make reproduce: the whole batch, tables and figures · make test: every test
PROFILE ?= toy
GROUP ?=
CELLS ?=
TRIAL ?= rehearsal
GPUS := $(shell nvidia-smi -L 2>/dev/null | grep -c .)
JOBS ?= $(if $(filter-out 0 1 2,$(GPUS)),$(GPUS),2)

# An active conda environment made from environment.yml is used as it is; else .venv, made from the lock.
ifeq ($(CONDA_DEFAULT_ENV),labelaug)
BIN := $(CONDA_PREFIX)/bin
ENV :=
else
BIN := .venv/bin
ENV := .venv/.ready
endif
PYTHONS = $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3 python)  # PYTHON=python3.13 chooses
OTHER := $(if $(PYTHON),$(shell [ "$$(.venv/bin/python -V 2>&1)" = "$$($(PYTHON) -V 2>&1)" ] || echo FORCE))

export JUPYTER_PREFER_ENV_PATH = 1
export PYDEVD_DISABLE_FILE_VALIDATION = 1
SNAKEMAKE = $(BIN)/snakemake --cores $(JOBS) --nolock --rerun-incomplete --rerun-triggers mtime --keep-going \
            $(if $(filter-out 0,$(GPUS)),--resources gpu=$(GPUS)) --quiet host reason rules --config profile=$(PROFILE) group=$(GROUP)
NOTEBOOKS = $(basename $(notdir $(wildcard notebooks/[0-9]*.py)))

PAPERMILL = TQDM_DISABLE=1 OMP_NUM_THREADS=1 papermill --no-progress-bar --log-level ERROR

.PHONY: FORCE reproduce report tune beyond verify rehearse test lab notebooks book bench
reproduce: $(ENV)
	@export PATH="$(abspath $(BIN)):$$PATH"; $(SNAKEMAKE) -- cells; cells=$$?; $(SNAKEMAKE) -- report; report=$$?; \
	  python -m companion.records.published $(PROFILE); exit $$(( cells | report ))

report: $(ENV)  ## tables and figures out of the records, without training
	@export PATH="$(abspath $(BIN)):$$PATH"; $(SNAKEMAKE) --forceall -- report && python -m companion.records.published $(PROFILE)

tune: $(ENV)  ## the runs on which learning rates and weights were chosen (validation data)
	@PATH="$(abspath $(BIN)):$$PATH" $(SNAKEMAKE) part=tuning -- cells

beyond: $(ENV)  ## the five questions beyond the paper: their cells, then notebooks 41 to 45
	@export PATH="$(abspath $(BIN)):$$PATH"; $(SNAKEMAKE) part=beyond -- cells && $(SNAKEMAKE) part=beyond -- report

verify: $(ENV)  ## the first seed of every recorded cell once more (CELLS=6: of six): do the same numbers come out?
	@export PATH="$(abspath $(BIN)):$$PATH"; out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT; \
	  $(SNAKEMAKE) part=verify cells=$(CELLS) out="$$out" -- cells; cells=$$?; \
	  mkdir -p results/$(PROFILE)/cells; $(PAPERMILL) notebooks/13_verify.ipynb results/$(PROFILE)/cells/13_verify.ipynb -p profile $(PROFILE) -p again "$$out"; \
	  python -m companion.records.verify $(PROFILE) "$$out" && exit $$cells

rehearse: $(ENV)  ## PROFILE=paper: every cell in two steps and small (CELLS=1: one a group), its tables, the hours of each
	@export PATH="$(abspath $(BIN)):$$PATH" LABELAUG_OUT="$$(mktemp -d)" && trap 'rm -rf "$$LABELAUG_OUT"' EXIT; trial=$(PROFILE)-$(TRIAL); \
	  $(SNAKEMAKE) profile=$$trial cells=$(CELLS) results="$$LABELAUG_OUT/results" -- cells && \
	  for name in 21_table2 22_table3 23_table4; do \
	    $(PAPERMILL) notebooks/$$name.ipynb "$$LABELAUG_OUT/$$name.ipynb" -p profile $$trial || exit 1; done && \
	  python -m companion.records.hours $(PROFILE) $$trial

test: $(ENV)
	$(BIN)/ruff check .
	TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && cp -r results figures "$$out" && \
	  LABELAUG_OUT="$$out" TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval-lax notebooks

lab: $(ENV)
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks

# The notebooks that were changed after their source: JupyterLab refuses to open these pairs, for the same reason.
define CHANGED
import os, sys, jupytext
def cells(file):
    return [(c.cell_type, c.source) for c in jupytext.read(file).cells]
def changed(py, ipynb):
    return os.path.exists(ipynb) and os.path.getmtime(ipynb) > os.path.getmtime(py) and cells(ipynb) != cells(py)
named = [n + ".ipynb" for n in sys.argv[1:] if changed(n + ".py", n + ".ipynb")]
sync = os.path.relpath(os.path.join(os.path.dirname(sys.executable), "jupytext")) + " --sync " + " ".join(named)
if named:
    sys.exit("changed after their .py, and would be lost: " + ", ".join(named) + "\nTo keep the changes: cd notebooks && "
             + sync + "\nTo give them up: remove these .ipynb. Then run make notebooks again.")
endef
export CHANGED

notebooks: $(ENV)  ## .py -> executed .ipynb (toy profile); an .ipynb that was changed after its .py is an error
	@cd notebooks && $(abspath $(BIN))/python -c "$$CHANGED" $(NOTEBOOKS)
	@cd notebooks && for name in $(NOTEBOOKS); do echo "$$name"; \
	  $(abspath $(BIN))/jupytext --quiet --to ipynb $$name.py && \
	  TQDM_DISABLE=1 $(abspath $(BIN))/jupyter nbconvert --log-level=ERROR --to notebook --execute --coalesce-streams --inplace $$name.ipynb || exit 1; done

book: $(ENV)  ## a static site of the committed notebooks, tables and figures; nothing is run, nothing is fetched
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d _build/doctrees notebooks _build/book
	@echo _build/book/index.html

bench: $(ENV)  ## how fast the core is, as ratios -> results/bench/*.json; wants a quiet machine
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/bench.py

.venv/.ready: requirements.txt pyproject.toml $(OTHER)
	@found=; for python in $(PYTHONS); do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "no Python 3.11, 3.12 or 3.13 runs here (tried: $(strip $(PYTHONS))); install one, or name it: make PYTHON=/path/to/python3.13" >&2; exit 1; \
	fi; \
	echo "$$found -m venv .venv"; $$found -m venv $(if $(OTHER),--clear) .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -c requirements.txt setuptools
	.venv/bin/pip install --quiet --disable-pip-version-check -c requirements.txt --no-build-isolation -e '.[all]'
	touch $@
