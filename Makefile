PYTHON ?= python3
BIN := .venv/bin
# A file's tests stay together, for they share what is slow to make.
AT_ONCE := --numprocesses=logical --maxprocesses=4 --dist=loadfile
PYTEST := $(BIN)/python -m pytest --ignore=tests/cluster
CLUSTER := .venv-cluster
# A network of its own, in which anybody may add machines.
NETWORK := unshare --user --map-root-user --net --mount --
FLINK_JOB_SERVER_JAR ?= $(CURDIR)/$(CLUSTER)/job-server/flink-job-server.jar
# The length of the campaigns.
SEED ?= 0
KILLS ?= 200
FAULTS ?= 20
INPUTS ?= 1000000
IMAGES ?= 8142550
INTERLEAVINGS ?= 3000
CONTEST := .venv-bench-job/installed $(patsubst benchmarks/environments/%.txt,.venv-bench-%/installed,$(wildcard benchmarks/environments/*.txt))
FAILED := { echo "error: pip could not install: it needs PyPI (or PIP_INDEX_URL) and 3 GB of disk; run make again" >&2; exit 1; }
SOURCES := setup.py $(shell find beam_job transforms -type f -not -name "*.pyc")

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-reference test-cluster test-image torture torture-stores lint lint-workflows cli docs release test-lowest audit bench bench-cluster pretrained quality clean

help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/installed ## Install into .venv and compress the embedded sample into out/sample
	$(BIN)/emnist-latents compress --dataset=sample --output=out/sample --overwrite

test: .venv/installed-dev ## Run the tests (under 5 minutes; EMNIST_DATA=DIR adds those on official files)
	$(PYTEST) $(AT_ONCE) -m "not slow and not long and not release"

test-long: .venv/installed-dev ## Run the tests of training, decoding, evaluation and reports (a few minutes more)
	$(PYTEST) $(AT_ONCE) -m long

test-reference: .venv/installed-dev ## Run 131,600 images through the job against the reference figures
	$(PYTEST) -m slow

test-cluster: $(CLUSTER)/installed $(CLUSTER)/bin/prism $(FLINK_JOB_SERVER_JAR) ## Run the job on Flink, Prism and object stores (needs Java 17, Maven, Go)
	@mkdir -p out
	$(NETWORK) env FLINK_JOB_SERVER_JAR=$(FLINK_JOB_SERVER_JAR) \
		$(CLUSTER)/bin/python -m pytest tests/cluster/runners --basetemp=out/cluster
	$(CLUSTER)/bin/python -m pytest tests/cluster tests/transforms/storage tests/beam_job/runners/test_runner.py --ignore=tests/cluster/runners $(AT_ONCE) -m "not image"

test-image: $(CLUSTER)/installed ## Build the container image and run jobs in it (needs root, podman, runc, mmdebstrap, Go)
	$(CLUSTER)/bin/python -m pytest tests/cluster -m image

torture: .venv/installed-dev ## Kill, disturb, feed and load the commands: SEED=0 INTERLEAVINGS=3000 KILLS=200 FAULTS=20 INPUTS=1000000 IMAGES=8142550 (hours; needs root, libfaketime)
	$(BIN)/python -m tests.campaigns.interleavings --seed=$(SEED) --count=$(INTERLEAVINGS)
	$(BIN)/python -m tests.campaigns.kills --seed=$(SEED) --kills=$(KILLS)
	$(BIN)/python -m tests.campaigns.faults --seed=$(SEED) --times=$(FAULTS)
	$(BIN)/python -m tests.campaigns.fuzz --seed=$(SEED) --inputs=$(INPUTS)
	$(BIN)/python -m tests.campaigns.load --images=$(IMAGES)

torture-stores: $(CLUSTER)/installed ## Run whole commands on object stores that fail, SEED=0 FAULTS=20 (an hour or more)
	$(CLUSTER)/bin/python -m tests.cluster.store_faults --seed=$(SEED) --times=$(FAULTS)

test-lowest: .venv-lowest/installed ## Run the tests with the lowest versions that setup.py allows
	.venv-lowest/bin/python -m pytest --ignore=tests/cluster $(AT_ONCE) -m "not slow and not long and not release"

lint: .venv/installed-dev ## Check style, types and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

cli: .venv/installed-dev ## Write docs/cli.md from the flags of all commands
	$(BIN)/python -m tests.documentation.cli_page

lint-workflows: $(CLUSTER)/bin/actionlint ## Check the workflows of .github (needs Go)
	$<

docs: .venv/installed-dev ## Build the documentation as a site into out/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir=out/site

release: .venv/installed-dev ## Build wheel and sdist into out/dist, check them, and run the README's commands from the wheel
	rm -rf out/dist
	$(BIN)/python -m build --installer=uv --outdir=out/dist
	$(BIN)/twine check --strict out/dist/*
	$(BIN)/python -m pytest tests/release -m release

audit: .venv-audit/installed ## Look the image's packages up for known vulnerabilities (needs PyPI's JSON API)
	.venv-audit/bin/python deploy/audit.py

bench: .venv/installed-dev $(CONTEST) ## Measure speed and memory beside what people would use instead (needs EMNIST_DATA, Java 17)
	$(BIN)/python -m benchmarks.run

bench-cluster: $(CLUSTER)/installed $(FLINK_JOB_SERVER_JAR) ## Measure the job on a Flink cluster beside the local runner (needs EMNIST_DATA, Java 17, Maven)
	$(NETWORK) env FLINK_JOB_SERVER_JAR=$(FLINK_JOB_SERVER_JAR) $(CLUSTER)/bin/python -m benchmarks.cluster

pretrained: .venv/installed-dev ## Train the weights that come with the package again (needs EMNIST_DATA, an hour; an interrupted one continues)
	$(BIN)/python -m recipes.pretrained --output=transforms/pretrained

quality: .venv/installed-dev ## Measure the package's weights on 11,632 held-out images of 62 classes, next to real codecs (needs EMNIST_DATA)
	cd "$(EMNIST_DATA)" && $(CURDIR)/$(BIN)/emnist-latents evaluate --input=emnist-byclass-test-images-idx3-ubyte.gz --max_images=11632 --output=$(CURDIR)/out/quality --overwrite
	cd out/quality && cp -r table.md results rate_distortion.svg ../../benchmarks/quality/

clean: ## Remove the virtual environment and what was built
	rm -rf .venv .venv-* .cache build out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON): install Python 3.10 to 3.13, or name one: make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { echo "error: $(PYTHON) is not Python 3.10 to 3.13: name another one: make run PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python $(SOURCES)
	@echo "installing into .venv: about a minute and 3 GB, from PyPI"
	@$(BIN)/python -m pip install --quiet . || $(FAILED)
	@touch $@

.venv/installed-dev: .venv/bin/python setup.py
	$(BIN)/python -m pip install --quiet --editable '.[dev]' || $(FAILED)
	@touch $@ .venv/installed

$(CLUSTER)/installed: setup.py
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --editable '.[dev,aws,gcp,cluster]'
	@touch $@

.venv-lowest/installed: .venv/installed-dev
	$(BIN)/uv venv --quiet --clear --python=$(PYTHON) $(@D)
	$(BIN)/uv pip install --quiet --python=$(@D) --resolution=lowest-direct --editable '.[dev]'
	@touch $@

$(CLUSTER)/bin/actionlint: $(CLUSTER)/installed
	GOBIN=$(CURDIR)/$(@D) go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# pip-audit brings much that nothing else here needs.
.venv-audit/installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet 'pip-audit>=2.10,<3'
	@touch $@

# Prism goes with the Beam that is installed.
$(CLUSTER)/bin/prism: $(CLUSTER)/installed
	version=$$($(@D)/python -c 'import apache_beam; print(apache_beam.__version__)') && \
	GOBIN=$(CURDIR)/$(@D) go install "github.com/apache/beam/sdks/v2/go/cmd/prism@v$$version"

$(CURDIR)/$(CLUSTER)/job-server/flink-job-server.jar: tests/cluster/runners/job_server/pom.xml $(CLUSTER)/installed
	mvn --batch-mode --quiet --strict-checksums --file $< -Doutput=$(@D) package
	@touch $@

# Each rival has an environment of its own, so that their dependencies don't mix; so has the job, with
# what its users install.
.venv-bench-job/installed: setup.py
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --editable '.[fast]'
	@touch $@

.venv-bench-%/installed: benchmarks/environments/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	@touch $@
