# `make help` lists the targets. Each first makes .venv and fetches Kafka, once.
PYTHON ?= python3
READY := .venv/.ready
PY := .venv/bin/python
# Compiled modules are kept, also where an image says not to: dozens of processes start from them.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run demo reset test soak check bench lock docs

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## Run the platform with simulated traffic until Ctrl-C
	@.venv/bin/portico run

demo: $(READY) ## Play the whole story against the platform and check it (build/demo.json)
	@$(PY) -m tools.demo

reset: $(READY) ## Forget the data of `make run`
	@$(PY) -m deploy.local.home

test: $(READY) ## Run every test but benchmarks
	@$(PY) -m pytest tests -n 4 --dist loadfile --no-loadscope-reorder

soak: $(READY) ## Run the same tests with full counts
	@PORTICO_SOAK=1 $(PY) -m pytest tests --timeout=3600

check: $(READY) ## Lint, types, architecture, generated documents
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m tools.docs --check

bench: .venv/.bench ## Print figures, all or those that begin with ONLY=prefix (build/bench.json)
	@$(PY) -m tests.benchmarks $(ONLY)

.venv/.bench: requirements-bench.lock $(READY)
	@$(PY) -m pip install --quiet --require-hashes -r $<
	@touch $@

docs: $(READY) ## Write the generated documents anew
	@$(PY) -m tools.docs

lock: $(READY) ## Choose the newest allowed versions of all packages (requirements.lock)
	@$(PY) -m pip install --quiet uv
	@$(PY) -m uv pip compile --quiet --universal --upgrade --generate-hashes --no-header \
		--extra dev pyproject.toml -o requirements.lock
	@printf 'duckdb\nenvoy-server\n' | $(PY) -m uv pip compile --quiet --universal --upgrade --generate-hashes \
		--no-header - -o requirements-bench.lock

$(READY): requirements.lock pyproject.toml deploy/local/kafka/pom.xml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer ($(PYTHON)) is missing." \
		"Install it: 'apt-get install python3 python3-venv', 'dnf install python3.12'" \
		"or 'brew install python@3.12'."; exit 1; }
	@$(PYTHON) tools/bootstrap.py
