# Every target sets up what it needs, once: Python 3.11, g++ and the network are all a fresh machine must have.
PYTHON ?= python3.11
VENV := .venv
# the stamp's name holds what the environment was made from, so a changed requirement sets up again
STAMP := $(VENV)/setup-$(shell cat pyproject.toml requirements/* | sha256sum | cut -c1-12)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup demo test lint clean

help:
	@echo 'make setup   the environment in $(VENV): pinned CPU stack, this project, development tools'
	@echo 'make demo    data, model, supervised cold start, adaptive guided RL, evaluation, report; 7 to 8 minutes on 2 fast cores'
	@echo 'make test    unit tests, numerical equalities, then the end-to-end tests on the real stack, on this machine and on several hosts'
	@echo 'make lint    ruff: style and format'
	@echo 'make clean   remove the environment and caches; keeps data/, models/ and runs/'

setup: $(STAMP)

$(STAMP):
	@PYTHON=$(PYTHON) VENV=$(VENV) requirements/setup.sh
	@rm -f $(VENV)/setup-* && touch $@

demo: $(STAMP)
	@agrl demo $(ARGS)

test: $(STAMP)
	pytest tests/unit -n 2
	pytest tests/numerics
	pytest tests/e2e -n 2 --dist loadscope
	pytest tests/faults -n 2
	pytest tests/cluster

lint: $(STAMP)
	ruff check .
	ruff format --check .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
