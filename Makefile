# Everything is installed into .venv, once: a stamp file there says which set is in. Nothing outside this folder is changed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
DATA ?=
VENV := .venv
RUN := $(VENV)/bin
PINS := .ci/constraints.txt
PACKAGES := classifier training service

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ONLY_BINARY := :all:

, := ,

# A skip is a failure under REQUIRE_SERVICES=1, so what tests would skip without is installed too.
TEST_SETS := $(VENV)/.dev $(if $(filter 1,$(REQUIRE_SERVICES)),$(VENV)/.training $(VENV)/.service $(VENV)/.ray $(VENV)/.litellm)

# pip would compile everything on one core; this takes all cores and leaves out plotly, of which only a script file is used.
# cpe, which a validator in the test tools needs, is offered as source alone; it is plain Python.
define install
	echo "installing $(1) into $(VENV) ..."
	.ci/again $(VENV)/pip.log $(RUN)/python -m pip install --no-compile --no-binary cpe --progress-bar off -c $(PINS) -e '$(2)' || { \
	  tail -n 20 $(VENV)/pip.log >&2; \
	  echo "The install failed for the reason above (the whole log: $(VENV)/pip.log). Mend it and repeat the command." >&2; exit 1; }
	$(RUN)/python -m compileall -qq -j 0 -x '/plotly/' $(VENV)/lib || true
	touch $@
endef

.PHONY: help demo console test lint audit bench train clean data-is-named

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s  %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.base  ## install, label the sample traffic, show the accounts and write an HTML report
	@$(RUN)/probewatch demo

console: demo-run/run.json  ## the demo's accounts in the console, at http://127.0.0.1:8080
	@$(RUN)/probewatch import demo-run --store sqlite:///demo.db
	@echo 'open http://127.0.0.1:8080 in a browser (Ctrl-C ends it)'
	@$(RUN)/probewatch serve --store sqlite:///demo.db --population 47

demo-run/run.json: | $(VENV)/.base
	@$(RUN)/probewatch demo

# Without --max-worker-restart=0, xdist waits for ever once a process of its own was lost with --dist loadfile.
test: $(TEST_SETS)  ## install what tests need and run them (REQUIRE_SERVICES=1: a skip is a failure)
	@OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n auto --dist loadfile --max-worker-restart=0

lint: $(VENV)/.dev  ## ruff and mypy --strict
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy --strict $(PACKAGES)

audit: $(VENV)/.audit  ## known flaws in pinned dependencies, where their database can be reached
	@$(RUN)/python .ci/audit.py $(VENV)/audit/bin/pip-audit .ci/constraints*.txt

bench: $(VENV)/.base $(if $(DATA),$(VENV)/.training)  ## speed on this machine; with DATA=folder also what is found in it
	@for file in tests/benchmarks/[a-z]*.py; do module=$${file%.py}; options=(); \
	  if grep -q '"--data"' "$$file"; then options=($(if $(DATA),--data '$(DATA)')); fi; \
	  if [ -z '$(DATA)' ] && grep -q '"--data".*required=True' "$$file"; then echo "$$file needs make bench DATA=folder"; continue; fi; \
	  $(RUN)/python -m "$${module//\//.}" "$${options[@]}"; done

train: data-is-named $(VENV)/.training  ## train the bundle: make train DATA=folder
	@$(RUN)/probewatch train --data '$(DATA)' --out data/bundle

data-is-named:
	@test -n '$(DATA)' || { echo "Training needs data: make train DATA=folder, with the files of prompts in it." >&2; exit 2; }

clean:  ## remove .venv, caches and builds
	@rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@command -v '$(PYTHON)' >/dev/null \
	  || { echo "probewatch needs Python 3.11 or newer and found no '$(PYTHON)': install it, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "probewatch needs Python 3.11 or newer and \
	$(PYTHON) is %d.%d: name a newer one: make PYTHON=python3.12" % v[:2])'
	@rm -rf $(VENV)
	@'$(PYTHON)' -m venv $(VENV) \
	  || { echo "Python could not create $(VENV): on Debian and Ubuntu, install python3-venv and repeat the command." >&2; exit 1; }
	@touch $@

$(VENV)/.base: pyproject.toml $(PINS) | $(VENV)/.created
	@$(call install,probewatch,.)

$(VENV)/.dev: $(VENV)/.base
	@$(call install,the test tools,.[dev])

$(VENV)/.training: $(VENV)/.base
	@$(call install,the training extra,.[training])

$(VENV)/.ray: $(VENV)/.base
	@$(call install,the ray extra,.[ray])

$(VENV)/.service: $(VENV)/.base
	@$(call install,what the service takes on Linux servers,.[postgres$(,)fast])

# pip-audit brings twenty packages that nothing else needs.
$(VENV)/.audit: | $(VENV)/.created
	@echo "installing pip-audit into $(VENV)/audit ..."
	@'$(PYTHON)' -m venv --clear $(VENV)/audit
	@.ci/again $(VENV)/pip-audit.log $(VENV)/audit/bin/python -m pip install --no-compile --progress-bar off 'pip-audit>=2.10,<3' \
	  || { tail -n 20 $(VENV)/pip-audit.log >&2; echo "The install failed for the reason above (the whole log: $(VENV)/pip-audit.log)." >&2; exit 1; }
	@touch $@

# LiteLLM needs other versions of what the rest needs, and runs in other people's environments: so it has its own here too.
$(VENV)/.litellm: .ci/constraints-litellm.txt | $(VENV)/.created
	@echo "installing LiteLLM into $(VENV)/litellm ..."
	@'$(PYTHON)' -m venv --clear $(VENV)/litellm
	@.ci/again $(VENV)/pip-litellm.log $(VENV)/litellm/bin/python -m pip install --no-compile --progress-bar off \
	  -c .ci/constraints-litellm.txt 'litellm[proxy]' || { tail -n 20 $(VENV)/pip-litellm.log >&2; \
	  echo "The install failed for the reason above (the whole log: $(VENV)/pip-litellm.log)." >&2; exit 1; }
	@touch $@
