# Two commands matter to a newcomer: `make demo` and `make test`. Each does all of its set-up.
.DEFAULT_GOAL := help
.PHONY: help venv test test-all unit verify types lint-and-generated prices crds members policies charts docs demo demo-down cluster-up cluster-down images release release-check bench-reconcile bench-rollout bench-kill bench-guard bench-misbehaviour bench-budget

VENV := .venv
PYTHON := python3
PY := $(VENV)/bin/python
export PYTHONPATH := operator
# Where this is set, each process of a test would compile all the modules that it imports.
unexport PYTHONDONTWRITEBYTECODE

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

venv: $(VENV)/.done ## the Python environment, from pinned and hashed requirements
$(VENV)/.done: requirements/dev.txt
	tools/venv.sh $(VENV) $(PYTHON)

# The operator reads the price book from here, as from its place in the image.
BOOK := operator/prices.json
prices: $(BOOK) ## the price book, from the pinned genai-prices
$(BOOK): $(VENV)/.done $(wildcard tools/prices/*.py) $(wildcard operator/interlock_contract/budget/price*.py)
	$(PY) -m tools.prices $@

PYTEST := $(PY) -m pytest --numprocesses 4 --dist loadscope --no-loadscope-reorder --second-try

test: venv prices verify ## lint, types, unit, real API server, real pods; all but the tests marked `nightly`
	$(PYTEST) -m "not nightly"

test-all: venv prices ## everything: `make unit verify` with each supported Python, then every test
	$(PY) -m tools.pythons
	$(PYTEST) --hypothesis-profile=explore

unit: venv prices ## the tests that need neither cluster nor network
	$(PY) -m pytest tests/unit tests/contract tests/scenarios

verify: venv ## lint, types, layer order, generated files
	$(MAKE) --no-print-directory --jobs 2 --output-sync types lint-and-generated

types:
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy examples/agent/agent.py
	$(VENV)/bin/mypy examples/crm-server/crm_server.py
	$(VENV)/bin/mypy examples/stock/agent/agent.py
	$(VENV)/bin/mypy examples/stock/server/server.py

lint-and-generated:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(PY) -m tools.crds.__main__ --check crds
	$(PY) -m tools.model_members --check
	$(PY) -m tools.admission --check
	$(PY) -m tools.access --check
	$(PY) -m tools.rollout_picture --check
	$(PY) -m tools.recording --check
	$(PY) -m tools.reference --check
	$(PY) -m tools.charts --check
	$(PY) -m tools.words

crds: venv ## write crds/ from the types in operator/interlock/api
	$(PY) -m tools.crds.__main__ crds

members: venv ## write the members of bodies for models, from the types of the pinned OpenAI and Anthropic SDKs
	$(PY) -m tools.model_members

policies: venv ## write the digests of manifests/admission, which the operator compares with what the API server has
	$(PY) -m tools.admission

charts: venv ## write the Helm charts and the page of their values, from manifests/, crds/ and tools/charts/values.py
	$(PY) -m tools.charts

docs: venv ## write the generated parts of pages and their pictures, and the site of all pages in build/site
	$(PY) -m tools.access
	$(PY) -m tools.rollout_picture
	$(PY) -m tools.recording
	$(PY) -m tools.reference
	$(PY) -m tools.site

demo: venv ## a real cluster, and an agent in it from its first stage to the kill switch
	$(PY) -m tools.demo up

demo-down: venv ## take away all that the demo left
	$(PY) -m tools.demo down

cluster-up: venv ## a real kind cluster, whatever this machine has
	$(PY) -m tools.cluster up

cluster-down: venv ## take away every cluster of ours and what it was made of, but not the cache
	$(PY) -m tools.cluster down

RELEASE_OPTIONS = $(if $(TAG),--tag "$(TAG)") $(if $(PLATFORMS),--platforms "$(PLATFORMS)")

images: venv ## build all images and put them into the kind cluster; with REGISTRY=... push them there, PLATFORMS=... by buildx
	$(PY) -m $(if $(REGISTRY),tools.release "$(REGISTRY)" --all --unsigned --undescribed $(RELEASE_OPTIONS),tools.cluster images)

release: venv ## push our images to REGISTRY, sign them with cosign's KEY, and pin them in dist/
	$(PY) -m tools.release "$(REGISTRY)" $(RELEASE_OPTIONS) $(if $(UNSIGNED),--unsigned,--key "$(KEY)")

release-check: venv ## check that version, changelog, charts and sizes of images fit; with TAG=v1.2.3 also the tag
	$(PY) -m tools.release.check $(if $(TAG),--tag "$(TAG)")

bench-reconcile: venv prices ## measure Agents per second to Ready, and a bare kopf handler for comparison, JSON on the last line
	$(PY) -m benchmarks.reconcile

bench-rollout: venv prices ## measure 1 000 agents in the middle of a rollout, and 1 000 promotions due at once, JSON on the last line
	$(PY) -m benchmarks.rollout

bench-kill: venv prices ## measure the time to kill, quiet and under a flood, and for 1 000 pods, JSON on the last line
	$(PY) -m benchmarks.kill

bench-misbehaviour: venv prices ## measure what misbehaving MCP servers cost a guard, JSON on the last line
	$(PY) -m benchmarks.misbehaviour

bench-guard: venv prices ## measure what the guard adds to a tools/call, and two comparisons, JSON on the last line
	$(PY) -m benchmarks.guard

bench-budget: venv ## measure what a budget costs and holds, and LiteLLM's proxy for comparison, JSON on the last line
	$(PY) -m benchmarks.budget
