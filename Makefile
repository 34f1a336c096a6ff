# Everything that a checkout can do.  `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
VENV := var/venv
BIN := $(VENV)/bin
CLIENT := media/strophe
NPM_READY := var/npm.stamp
BUILT := $(CLIENT)/dist/pubsub.client.js

export PYTHON
# Some images set it; each of the processes that tests start would compile everything for itself.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PROGRAMS := venv node npm erl ejabberd nginx openssl

.PHONY: help demo test client-tests python-tests soak bench lint client build clean programs

help:  ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: programs $(VENV)/ready $(BUILT)  ## start ejabberd, nginx and Django with the demo; Ctrl-C stops them
	@exec $(BIN)/python -m demo

test: PROGRAMS += chromium postgres cc
test: client-tests python-tests  ## run every test: unit, server, browser, client

client-tests: $(BUILT)
	@echo "Testing the browser client …"
	@npm --prefix $(CLIENT) test >var/client-tests.txt 2>&1 || { cat var/client-tests.txt; exit 1; }
	@grep '^# [pf]a' var/client-tests.txt

python-tests: programs $(VENV)/ready $(BUILT)
	@echo "Testing the rest …"
	@$(BIN)/python -m pytest -n 4 --dist worksteal

soak: PROGRAMS := venv erl ejabberd openssl postgres
soak: SECONDS ?= 300
soak: SEED ?= 1
soak: programs $(VENV)/ready  ## lose nothing for SECONDS=300 while everything fails, as SEED=1 decides
	@exec $(BIN)/python -m tests.soak --seconds $(SECONDS) --seed $(SEED)

bench: PROGRAMS += chromium postgres cc redis-server nchan
bench: programs $(VENV)/bench $(BUILT)  ## measure saves, the outbox, pages and crowds; `python -m bench --help` has more
	@exec $(BIN)/python -m bench

lint: $(VENV)/ready $(NPM_READY)  ## check style and types of Python and JavaScript
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@npm --prefix $(CLIENT) run lint

client: $(BUILT)  ## build the browser client

build: $(VENV)/ready $(BUILT)  ## make the wheel and the source package in dist/
	@$(BIN)/python -m build

clean:  ## remove all that the other targets have made, the demo's data included
	rm -rf var build dist *.egg-info $(CLIENT)/dist $(CLIENT)/node_modules

# All at once, so that whoever may not install them is told once what to install.
programs:
	@.ci/need $(PROGRAMS)

# The virtual environment, anew whenever what it holds has changed.
$(VENV)/ready: setup.py pyproject.toml
	@.ci/need venv
	@echo "Preparing the virtual environment $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[demo,test,lint]'
	@touch $@

# And with what it is compared with.
$(VENV)/bench: $(VENV)/ready
	@echo "Preparing the virtual environment for the bench …"
	@$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(NPM_READY): $(CLIENT)/package.json $(CLIENT)/package-lock.json
	@.ci/need node npm
	@echo "Fetching the client's npm packages …"
	@npm --prefix $(CLIENT) ci --no-audit --no-fund --loglevel=error
	@mkdir -p $(@D)
	@touch $@

$(BUILT): $(NPM_READY) $(shell find $(CLIENT)/src $(CLIENT)/standins -type f) $(wildcard $(CLIENT)/*.js*)
	@.ci/need node npm
	@echo "Building the browser client …"
	@npm --prefix $(CLIENT) run --silent build
	@touch $@
