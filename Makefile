# Everything happens in .venv, made on first use; only Python 3.11 or 3.12 and make are assumed.

PYTHON ?= $(shell for python in python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
STAMP := .venv/stamp

# Every stage is a process of its own: without bytecode each would compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP)  ## make .venv (the other targets do it themselves); PYTHON=… chooses the Python

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "vidpipe needs Python 3.11 or 3.12; none was found. Install" \
		"one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(PYTHON) tools/bootstrap.py
	@touch $@

demo: $(STAMP)  ## the whole loop, videos to labels; VIDEOS=folder LABELS=file.csv TASK=name SEED=number
	@mkdir -p -m 700 .vidpipe
	@$(BIN)/vidpipe demo $(if $(VIDEOS),--videos "$(VIDEOS)") $(if $(LABELS),--labels "$(LABELS)") \
		$(if $(TASK),--task "$(TASK)") $(if $(SEED),--seed "$(SEED)")

# Several at a time, a file each: most tests wait for a server now and then.
FILES := --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## the tests, but for the long ones
	@$(BIN)/python -m pytest -m "not long" --numprocesses 3 $(FILES)

test-long: $(STAMP)  ## only the long ones
	@$(BIN)/python -m pytest -m long --numprocesses 3 $(FILES)

test-all: test test-long  ## all tests

# One at a time where nodes are drained and stopped.
test-kubernetes: $(STAMP)  ## those that need the cluster of KUBECONFIG, and docker; QUICK=1: but the slow ones
	@$(BIN)/python -m pytest -m kubernetes $(if $(QUICK),--numprocesses 2 $(FILES),--run-slow) tests/kubernetes

lint: $(STAMP)  ## style and common mistakes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lock: $(STAMP)  ## renew constraints.txt: the newest versions that go together, with their hashes
	@$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --universal --fork-strategy fewest \
		--python-version 3.11 --extra dev --extra worker-gpu --custom-compile-command "make lock" \
		--output-file constraints.txt setup.cfg

# A checkout has a stack of its own, also where a folder above it has one.
up: $(STAMP)  ## start the stack: S3, MLflow, Airflow
	@mkdir -p -m 700 .vidpipe
	@$(BIN)/vidpipe up

down: $(STAMP)  ## stop the stack
	@$(BIN)/vidpipe down

status: $(STAMP)  ## what runs, and where
	@$(BIN)/vidpipe status

# What is not set here is told on the command line, and make passes it on.
images:  ## container images; TAG=… REGISTRY=host/path (pushes) GPU=1 BASE_IMAGE=… DOCKER_BUILD_FLAGS=…
	@$(or $(PYTHON),python3) tools/images.py

lock-images:  ## record digests of base images
	@$(or $(PYTHON),python3) tools/images.py lock

clean:  ## stop the stack, remove it with all its data, and .venv
	@test ! -x $(BIN)/vidpipe || test ! -d .vidpipe || $(BIN)/vidpipe down
	@rm -rf .vidpipe .venv build vidpipe.egg-info demo.png

.PHONY: help setup demo test test-long test-all test-kubernetes lint lock up down status images lock-images clean
