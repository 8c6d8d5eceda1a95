# Two commands are for everybody: `make run` and `make test`. Both do all set-up they need.
SHELL := /bin/bash
export PYTHONDONTWRITEBYTECODE :=
HOME_DIR := $(if $(CSCM_HOME),$(CSCM_HOME),$(CURDIR)/.cscm)
BIN := $(HOME_DIR)/venv/bin
READY := $(HOME_DIR)/venv/.ready

.PHONY: run test check lint lint-types lint-imports lint-words lint-style test-unit test-others test-quick test-chain test-fuzz test-coverage test-mutation test-sample test-real test-sessions test-faults test-aws release docs format lock

run:
	@scripts/run $(BIN) $(READY)

test: lint test-coverage test-others test-sessions

check: lint
	$(BIN)/python -m pytest -q $(addprefix tests/unit/test_,$(addsuffix .py,project docs errors))

SIDE_BY_SIDE := $(MAKE) --no-print-directory --output-sync=target --jobs
LINT := $(addprefix lint-,types imports words style)

lint: $(READY) # mypy takes most of the time, and one core
	@$(SIDE_BY_SIDE) 2 $(LINT)

$(LINT): $(READY)

lint-types:
	$(BIN)/mypy

lint-imports:
	$(BIN)/lint-imports

lint-words:
	$(BIN)/python -m scripts.names
	$(BIN)/python -m scripts.prose

lint-style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

PYTEST := $(BIN)/python -m pytest -q -n auto --dist worksteal
GATES := policy evidence

test-unit: $(READY)
	$(PYTEST) tests/unit tests/contract

test-others: $(READY) # than those that `test-coverage` runs, which need no laptop
	$(PYTEST) tests/unit tests/contract tests/integration/prefect $(GATES:%=--ignore=tests/unit/%)

test-quick: $(READY) # before each commit, where `make run` has run
	@$(SIDE_BY_SIDE) 3 test-unit test-chain $(LINT)

test-chain: $(READY)
	$(BIN)/cscm chain examples/hello --force

test-fuzz: $(READY)
	CSCM_FUZZ_FACTOR=$${CSCM_FUZZ_FACTOR:-20} $(PYTEST) tests/unit/fuzz

test-coverage: $(READY)
	$(PYTEST) --cov --cov-report= $(GATES:%=tests/unit/%)
	$(BIN)/coverage report --show-missing --fail-under=100

test-mutation: $(READY)
	$(BIN)/python -m tests.mutation

test-sample: $(READY)
	$(BIN)/python -m tests.mutation --sample 120

test-real test-sessions: $(READY) # the second one without the slowest tests, and with some mutants of the gates
	@scripts/test-programs $(if $(filter test-real,$@),all)
	$(BIN)/cscm up
	@scripts/test-real $(BIN)/python $(if $(filter test-sessions,$@),-m tests.mutation --sample 10 --jobs 1 src/supply_chain/policy/gate.py tasks/gates.py)

test-faults: $(READY)
	$(BIN)/cscm up
	CSCM_FAULTS=all $(BIN)/python -m pytest -q tests/integration/faults

test-aws: $(READY)
	CSCM_AWS_TEST=1 $(BIN)/python -m pytest tests/aws

release: $(READY)
	$(BIN)/cscm up
	$(BIN)/cscm bases python python-build
	$(BIN)/python -m scripts.release

docs: $(READY)
	$(BIN)/python -m scripts.shipped_policies
	$(BIN)/python -m scripts.reference
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "the documentation is at build/docs/index.html"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)
	scripts/lock

$(READY): requirements.lock pyproject.toml src/cscm_laptop/pyproject.toml scripts/bootstrap
	@scripts/bootstrap $(HOME_DIR)/venv
	@touch $@
