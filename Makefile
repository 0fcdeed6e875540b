# `make help` lists the targets. Everything is installed into ignored folders of this checkout.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV_VERSION := 0.13.9
DELTA := io.delta:delta-spark_4.0_2.13:4.4.0
PYTHON := .venv/bin/python
UV := .tools/bin/uv
HABITUS := .venv/bin/habitus
PYTEST := .venv/bin/pytest -n 2 --dist loadgroup --no-loadscope-reorder
SITE := .venv/lib/python3.11/site-packages
# The interpreter is the machine's own; uv is never to fetch one.
export UV_PYTHON_DOWNLOADS := never
# Every process that a run starts imports the environment; TensorFlow alone takes 11 s to compile.
export UV_COMPILE_BYTECODE := 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup lock demo picture test test-% lint format package cluster-demo bench bench-% clean

help: ## List the targets
	@grep -E '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/.ready ## Make the environment and fetch Delta's jars, once

.tools/.ready: Makefile
	@$(call need,python3.11,Python 3.11,apt-get install python3.11 python3.11-venv)
	@$(call need,java,a Java 17 runtime,apt-get install openjdk-17-jre-headless)
	@java -version 2>&1 | grep -qE 'version "17' || { echo "make: java is not version 17: $$(java -version 2>&1 | head -1). Install it with: apt-get install openjdk-17-jre-headless, and put it first on PATH" >&2; exit 1; }
	@$(call need,c++,a C++ compiler,apt-get install g++)
	@python3.11 -c 'import ensurepip' 2>/dev/null || { echo "make: Python's venv module is missing. Install it with: apt-get install python3.11-venv" >&2; exit 1; }
	@python3.11 -m venv .tools
	@.tools/bin/pip install --quiet uv==$(UV_VERSION)
	@touch $@

# Horovod is compiled against TensorFlow here, which takes 2 to 4 minutes; uv keeps the wheel.
.venv/.ready: requirements.lock pyproject.toml .tools/.ready
	@echo "Setting up: the environment (Horovod is compiled once, 2 to 4 minutes) and Delta's jars"
	@[ -x $(PYTHON) ] || $(UV) venv --quiet --relocatable --python python3.11 .venv
	@$(UV) pip sync --quiet --python $(PYTHON) --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@$(MAKE) --no-print-directory .jars/.ready
	@# Spark finds jars in its own folder however it is started: python, spark-submit, Thrift server.
	@ln -sf $(CURDIR)/.jars/io.delta_*.jar $(SITE)/pyspark/jars/
	@touch $@

# Spark's own resolver fetches the jars; the empty local repository keeps half-filled ones out. A
# download that breaks off is tried again.
.jars/.ready: Makefile
	@mkdir -p .jars/.ivy && rm -f .jars/fetched
	@for attempt in 1 2 3; do \
	    spark-submit --master 'local[1]' --packages $(DELTA) --conf spark.jars.ivy=$(CURDIR)/.jars/.ivy \
	      --conf spark.driver.extraJavaOptions=-Dmaven.repo.local=$(CURDIR)/.jars/.empty \
	      $(SITE)/pyspark/examples/src/main/python/pi.py 1 >.jars/fetch.log 2>&1 && touch .jars/fetched && break; \
	  done; [ -e .jars/fetched ] || { tail -5 .jars/fetch.log >&2; echo "make: Delta's jars could not be fetched; see .jars/fetch.log" >&2; exit 1; }
	@cp .jars/.ivy/jars/io.delta_*.jar .jars/
	@touch $@

lock: .tools/.ready ## Resolve the dependencies anew into requirements.lock
	$(UV) pip compile pyproject.toml --extra dev --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --output-file requirements.lock --quiet

demo: setup ## Run the whole main job on a simulated shop (SET="seed=8 ..." changes settings)
	@$(HABITUS) run --from simulate --env demo $(SET:%=--set %) \
	  --source conf/sources/shop.yaml --input .demo/raw

picture: setup ## Draw the README's picture: the demo's report, in Chromium
	@mkdir -p .images
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1100,1250 \
	  --screenshot=.images/report.png file://$(CURDIR)/.demo/lake/reports/report.html

test: setup lint ## Pass every test, types and import contracts included
	$(PYTEST)

test-%: setup ## Pass one tier's tests: plain, spark, lake, train or jobs
	$(PYTEST) -m $*

lint: setup ## Check style, types and import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy $(filter-out %/test_figures.py,$(wildcard tests/benchmarks/*.py))
	.venv/bin/lint-imports --no-logo

format: setup ## Format the code and sort its imports
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

package: setup ## Build the wheel and a relocatable archive of the environment into dist/
	rm -rf dist
	$(UV) build --quiet --wheel --no-build-isolation --python $(PYTHON) --out-dir dist .
	@# Links to the environment's files, without what only developers need, and with the wheel in
	@# place of the checkout.
	mkdir -p dist/environment
	cp -al .venv/. dist/environment
	$(UV) pip compile --quiet pyproject.toml --constraint requirements.lock --python-version 3.11 --output-file dist/requirements.txt
	$(UV) pip sync --quiet --python dist/environment/bin/python dist/requirements.txt
	$(UV) pip install --quiet --python dist/environment/bin/python --no-deps --reinstall dist/*.whl
	@# Executors have the cluster's own Spark jars, and nothing is compiled against TensorFlow there.
	tar --create --directory dist/environment --exclude '*/pyspark/jars' --exclude '*/tensorflow/include' . \
	  | gzip -1 > dist/environment.tar.gz
	rm -rf dist/environment dist/requirements.txt
	@ls -sh dist

cluster-demo: package ## Run the jobs on a real two-worker Spark cluster on this machine
	conf/cluster/demo.sh

bench: setup ## Print every benchmark's table, at a small size
	@for path in $(filter-out %/test_figures.py,$(wildcard tests/benchmarks/[a-z]*.py)); do echo "$$(basename $$path .py):"; $(PYTHON) $$path --small; done

bench-%: setup ## Print one benchmark's table and write .bench/NAME.json
	@$(PYTHON) tests/benchmarks/$*.py

clean: ## Remove what runs made; the environment and the jars stay
	rm -rf .demo .bench .cluster dist .spark-warehouse .pytest_cache .mypy_cache .ruff_cache .hypothesis

define need
command -v $(1) >/dev/null || { echo "make: $(2) is missing ($(1) is not on PATH). Install it with: $(3)" >&2; exit 1; }
endef
