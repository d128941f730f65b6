# make demo   sets everything up and runs a vehicle and its cloud on this machine
# make test   sets everything up and runs every check
# make help   lists the rest

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .make
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# arguments of milepost-sim demo, e.g. make demo DEMO_ARGS="--speed 10 --for 60s"
DEMO_ARGS ?=
# arguments of pytest, e.g. make test PYTEST_ARGS="tests/contract -k batch"
PYTEST_ARGS ?=
PYTEST_WORKERS ?= 4
# kills of make test-crash; its other arguments: make test-crash CRASH_ARGS="--seed 7 --keep"
KILLS ?= 100
CRASH_ARGS ?=

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 22

.PHONY: demo
demo: $(STAMPS)/runtime ## replay a drive through the real agent and the one-machine cloud (DEMO_ARGS="...")
	@$(BIN)/milepost-sim demo $(DEMO_ARGS)

.PHONY: test
test: check pytest ## format, lint, types, import rules and all tests

# power cuts, the time bound in seconds and further arguments of the rig (docs/rig.md)
CUTS ?= 20
RIG_DEADLINE_S ?= 3600
RIG_ARGS ?=

.PHONY: test-rig
test-rig: test-rig-power test-rig-fleet ## a vehicle in a virtual machine: power cuts, and its way into the fleet

.PHONY: test-rig-power
test-rig-power: rig-set-up ## its power is cut at random moments (CUTS=20 RIG_DEADLINE_S=3600)
	$(BIN)/python -m tests.rigs.board power --cuts $(CUTS) --deadline $(RIG_DEADLINE_S) $(RIG_ARGS)

.PHONY: test-rig-fleet
test-rig-fleet: rig-set-up ## a bare board: package, claim, watchdog, upgrade, rotation, purge (RIG_DEADLINE_S=3600)
	$(BIN)/python -m tests.rigs.board fleet --deadline $(RIG_DEADLINE_S) $(RIG_ARGS)

.PHONY: test-rig-arm64 test-rig-armhf
test-rig-arm64: ## the same on an arm64 board, emulated (RIG_DEADLINE_S=7200; its image takes half an hour, once)
test-rig-armhf: ## the same on a 32-bit board, emulated likewise
test-rig-arm64 test-rig-armhf: RIG_DEADLINE_S = 7200
test-rig-arm64 test-rig-armhf: $(STAMPS)/dev
	@.ci/apt-packages rig-arm
	$(BIN)/python -m tests.rigs.board fleet --arch $(@:test-rig-%=%) --deadline $(RIG_DEADLINE_S) $(RIG_ARGS)

.PHONY: test-network
test-network: $(STAMPS)/dev apt-packages ## the network's faults for minutes each, through the fault proxy (about 15 min)
	MILEPOST_FULL=1 $(BIN)/pytest --numprocesses 2 --durations 10 tests/network

.PHONY: test-scenarios
test-scenarios: $(STAMPS)/dev apt-packages ## every scenario of the simulator with four different drives (about 6 min)
	MILEPOST_FULL=1 $(BIN)/pytest --numprocesses 2 --dist loadgroup tests/simulator/test_scenario_run.py

.PHONY: test-rig-network
test-rig-network: rig-set-up ## the same vehicle with tc netem on its link
	$(BIN)/python -m tests.rigs.board network --deadline $(RIG_DEADLINE_S) $(RIG_ARGS)

.PHONY: test-rig-can
test-rig-can: rig-set-up ## the same vehicle with SocketCAN: filters, bus down and up, flood, CAN FD
	$(BIN)/python -m tests.rigs.board can --deadline $(RIG_DEADLINE_S) $(RIG_ARGS)

.PHONY: test-rig-diagnostics
test-rig-diagnostics: rig-set-up ## the same vehicle with OBD-II, UDS and J1939 on SocketCAN
	$(BIN)/python -m tests.rigs.board diagnostics --deadline $(RIG_DEADLINE_S) $(RIG_ARGS)

.PHONY: rig-set-up
rig-set-up: $(STAMPS)/dev
	@.ci/apt-packages rig

.PHONY: check
check: $(STAMPS)/dev ## everything but the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/scan_secrets.py

# The scanner looks into what was built, too: dist has the Debian packages.
.PHONY: scan-secrets
scan-secrets: $(STAMPS)/dev ## look for secrets in the repository and in the packages in dist
	$(BIN)/python .ci/scan_secrets.py
	@for package in dist/*.deb; do [ ! -e "$$package" ] || $(BIN)/python .ci/scan_secrets.py "$$package"; done

.PHONY: audit
audit: $(STAMPS)/dev ## known vulnerabilities of the pinned versions (needs the network)
	@.ci/audit $(BIN)/python

.PHONY: pytest
pytest: $(STAMPS)/dev $(STAMPS)/sam apt-packages ## the tests (PYTEST_ARGS="...")
	$(BIN)/pytest --numprocesses $(PYTEST_WORKERS) --dist loadgroup --durations 15 $(PYTEST_ARGS)

.PHONY: test-crash
test-crash: $(STAMPS)/dev apt-packages ## kill -9 the real agent again and again (KILLS=500)
	@$(BIN)/python -m tests.rigs.crash --kills $(KILLS) $(CRASH_ARGS)

# seconds for each target of the search, and which: make fuzz SECONDS_EACH=20 TARGETS="batch iotsql"
# SEED other than 0 takes the same way each time
SECONDS_EACH ?= 120
SEED ?= 0
TARGETS ?=

.PHONY: fuzz
fuzz: $(STAMPS)/atheris ## search the parsers for inputs that break them (SECONDS_EACH=120 TARGETS="...")
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS_EACH) --seed $(SEED) $(TARGETS)

.PHONY: format
format: $(STAMPS)/dev ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(STAMPS)/dev ## every benchmark, as JSON lines (docs/performance.md)
	@for file in bench/[a-z]*.py; do $(BIN)/python $$file --json; done

.PHONY: schema
schema: $(STAMPS)/dev ## write docs/schema, and configuration, doctor, modes and simulator in docs, from the code
	$(BIN)/python -m contract.schema docs/schema
	$(BIN)/python -m agent.config.reference docs/configuration.md
	$(BIN)/python -m simulator.scenario.reference docs/simulator.md
	$(BIN)/python -m agent.doctor.reference docs/doctor.md
	$(BIN)/python -m agent.engine.modes_page docs/modes.md

.PHONY: screenshot
screenshot: $(STAMPS)/dev apt-packages ## take the README's picture of the live map
	MILEPOST_SCREENSHOT=docs/img/live-map.png $(BIN)/pytest tests/system/test_live_map.py

.PHONY: lambda-bundle
lambda-bundle: $(STAMPS)/runtime ## the folder that cloud/template.yaml deploys
	$(BIN)/python -m cloud.deploy.bundle

.PHONY: wheel
wheel: $(STAMPS)/venv ## dist/milepost-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# of the Debian package: arm64, armhf or amd64; the machine's own if empty
ARCH ?=

.PHONY: deb
deb: $(STAMPS)/dev ## dist/milepost-agent_*.deb and its bill of materials (ARCH=arm64|armhf|amd64)
	@.ci/apt-packages deb
	@$(BIN)/python -m package deb $(if $(ARCH),--arch $(ARCH))

.PHONY: lock
lock: $(STAMPS)/dev ## resolve the package's libraries anew, with hashes (package/requirements.lock)
	@$(BIN)/python -m package lock

.PHONY: constraints
constraints: $(STAMPS)/dev ## write the versions in use into constraints.txt
	.ci/write-constraints $(BIN)/python

.PHONY: clean
clean: ## remove what the targets made, the virtual environment included
	rm -rf $(VENV) $(STAMPS) .tools dist build *.egg-info demo-data scenario-data

.PHONY: apt-packages
apt-packages: ## gpsd, Mosquitto, can-utils, Chromium: the real peers of the tests
	@.ci/apt-packages

$(STAMPS)/venv:
	@test -n "$(PYTHON)" || { echo "Milepost needs Python 3.11, 3.12 or 3.13; none is on the PATH." >&2; exit 1; }
	@.ci/make-venv $(PYTHON) $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/runtime: pyproject.toml constraints.txt | $(STAMPS)/venv
	@echo "installing Milepost into $(VENV) (once; a minute or two)"
	@$(PIP_INSTALL) --editable '.[agent,cloud,simulator]'
	@touch $@

$(STAMPS)/dev: pyproject.toml constraints.txt | $(STAMPS)/venv
	@echo "installing Milepost and its development tools into $(VENV) (once; a few minutes)"
	@$(PIP_INSTALL) --editable '.[agent,cloud,simulator,dev]'
	@touch $@ $(STAMPS)/runtime

# In a virtual environment of its own: it pins many of the libraries that we use too.
$(STAMPS)/sam: | $(STAMPS)/venv
	@echo "installing the AWS SAM command line into .tools/sam (once; a minute)"
	@.ci/make-venv $(PYTHON) .tools/sam
	@.tools/sam/bin/python -m pip install --quiet --disable-pip-version-check 'aws-sam-cli>=1.150,<2' \
	|| { [ "$${MILEPOST_REQUIRE_ALL:-}" != 1 ] && echo "aws-sam-cli did not install; its tests are skipped by name"; }
	@touch $@

# Not in an extra: where there is no wheel it would be built with clang.
$(STAMPS)/atheris: | $(STAMPS)/dev
	@echo "installing atheris (once)"
	@$(PIP_INSTALL) --only-binary atheris atheris && touch $@ \
	|| echo "atheris did not install (it has wheels for 64-bit Linux only); the search is skipped by name"
