# Each target sets up what it needs, from hashed files, in an environment of its own inside the
# checkout. Only `make test` may ask for root, and only where Go, PostgreSQL or Chromium is missing.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Nothing is read from a user's own site-packages or start-up files.
export PYTHONNOUSERSITE := 1
# The tests start hundreds of interpreters: none should compile the library anew.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

DEMO := .venv-demo/bin/python
TEST := .venv-test/bin/python
SOURCES := $(shell find src -name '*.py' 2>/dev/null) pyproject.toml $(wildcard README.md)

.PHONY: help demo nexus test test-long components bench load deploy destroy lint style types floors clean constraints

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' Makefile | awk -F: '{ printf "make %-12s %s\n", $$1, $$2 }'

demo: .venv-demo/.stamp  ## the main job from end to end, on a database made for it; no root, no server
	@$(DEMO) -m lacre.cli demo

nexus: .venv-test/.stamp  ## the example service, on a PostgreSQL of its own, until Ctrl-C
	@scripts/find-postgresql --install >/dev/null
	@PYTHONPATH=.:examples $(TEST) -m nexus

lint: types style floors  ## ruff, mypy and the floors

style: .venv-test/.stamp
	$(TEST) -m ruff check .
	$(TEST) -m ruff format --check .

types: .venv-test/.stamp
	$(TEST) -m mypy
	MYPYPATH=src:examples $(TEST) -m mypy --strict -p nexus -p departments

floors: .venv-test/.stamp
	.venv-test/bin/lint-imports

# Go keeps its cache in the checkout: HOME may be unset, or not ours to write to.
PYTEST = PATH="$$(scripts/find-go --install):$$PATH" \
	GOTOOLCHAIN=local GOFLAGS=-mod=mod GOPROXY=off GOCACHE="$(CURDIR)/.cache/go" GOPATH="$(CURDIR)/.cache/gopath" \
	BARE_PYTHON="$(CURDIR)/.venv-bare/bin/python" \
	$(TEST) -m pytest -n 2 --dist worksteal

# What differs between the two SQLAlchemy that are supported.
ON_SQLALCHEMY_20 = tests/sqlalchemy tests/stores -m "not long and not any_sqlalchemy"

# Environments are made, and the code is checked, two at a time; then the tests run.
test: components  ## every check and test
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target .venv-test/.stamp .venv-sqlalchemy20/.stamp .venv-ministack/.stamp .venv-bare/.stamp lint
	.venv-sqlalchemy20/bin/python -m pytest -n 2 --dist worksteal $(ON_SQLALCHEMY_20)
	$(PYTEST) -m "not long"

test-long: .venv-test/.stamp .venv-ministack/.stamp .venv-bare/.stamp .venv-checkov/.stamp components  ## the tests that take minutes
	$(PYTEST) -m long

components:  ## what the tests run on that is no Python package; as root it is installed where it is missing
	@scripts/find-go --install >/dev/null
	@scripts/find-postgresql --install >/dev/null
	@scripts/find-chromium --install >/dev/null

bench: .venv-demo/.stamp .venv-test/.stamp .venv-peers/.stamp  ## figures, beside peers measured in the same run
	@scripts/find-postgresql --install >/dev/null
	$(DEMO) benchmarks/field.py --peers .venv-peers/bin/python
	PYTHONPATH=. $(TEST) benchmarks/tables.py --peers .venv-peers/bin/python
	PYTHONPATH=. $(TEST) benchmarks/service.py
	PYTHONPATH=. $(TEST) benchmarks/protect_postgresql.py
	PYTHONPATH=. $(TEST) benchmarks/key_service.py
	PYTHONPATH=. $(TEST) benchmarks/search.py
	PYTHONPATH=. $(TEST) benchmarks/reencrypt_postgresql.py
	PYTHONPATH=. $(TEST) benchmarks/rewrap_branch.py
	PYTHONPATH=. $(TEST) benchmarks/bulk.py
	PYTHONPATH=. $(TEST) benchmarks/decisions.py
	PYTHONPATH=. $(TEST) benchmarks/evidence_cost.py
	PYTHONPATH=. $(TEST) benchmarks/evidence_append.py
	PYTHONPATH=. $(TEST) benchmarks/evidence_verify.py
	PYTHONPATH=. $(TEST) benchmarks/evidence_detect.py
	PYTHONPATH=. $(TEST) benchmarks/evidence_report.py
	PYTHONPATH=. $(TEST) benchmarks/evidence_pages.py

load: .venv-test/.stamp  ## the example under sustained load, beside a twin that encrypts nothing
	@scripts/find-postgresql --install >/dev/null
	PYTHONPATH=.:examples $(TEST) benchmarks/nexus_load.py

deploy:  ## show what a stack would become, ask, do it: make deploy STACK=chandlery VALUES=production.tfvars
	@scripts/stack deploy "$(STACK)" "$(VALUES)"

destroy:  ## the same, to take a stack away
	@scripts/stack destroy "$(STACK)" "$(VALUES)"

clean:  ## remove the environments and everything that was made
	rm -rf .venv-* .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. The stamp is written last: one that was interrupted is made anew.

.venv-demo/.stamp: constraints/demo.txt constraints/build.txt pyproject.toml scripts/make-environment
	@scripts/make-environment .venv-demo constraints/build.txt constraints/demo.txt
	@$(DEMO) -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

.venv-test/.stamp: constraints/test.txt constraints/samples.txt constraints/build.txt pyproject.toml scripts/make-environment
	@scripts/make-environment .venv-test constraints/build.txt constraints/test.txt
	@$(TEST) -m pip install --quiet --no-deps --require-hashes -r constraints/samples.txt
	@$(TEST) -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

.venv-sqlalchemy20/.stamp: constraints/sqlalchemy20.txt constraints/build.txt pyproject.toml scripts/make-environment
	@scripts/make-environment .venv-sqlalchemy20 constraints/build.txt constraints/sqlalchemy20.txt
	@.venv-sqlalchemy20/bin/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

# An emulator of AWS that the tests start; they look for it beside their own environment.
.venv-ministack/.stamp: constraints/ministack.txt scripts/make-environment
	@scripts/make-environment .venv-ministack constraints/ministack.txt
	@touch $@

# What `pip install lacre` gives, without extras: the built wheel, and what it requires.
.venv-bare/.made: constraints/bare.txt scripts/make-environment
	@scripts/make-environment .venv-bare constraints/bare.txt
	@touch $@

.venv-bare/.stamp: .venv-bare/.made .venv-test/.stamp $(SOURCES)
	@rm -rf build/wheel
	@$(TEST) -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel .
	@.venv-bare/bin/python -m pip install --quiet --no-index --no-deps --force-reinstall build/wheel/lacre-*.whl
	@touch $@

# What judges the infrastructure modules; the tests look for it beside their own environment.
.venv-checkov/.stamp: constraints/checkov.txt scripts/make-environment
	@scripts/make-environment .venv-checkov constraints/checkov.txt
	@touch $@

.venv-peers/.stamp: constraints/peers.txt scripts/make-environment
	@scripts/make-environment .venv-peers constraints/peers.txt
	@touch $@

# Pins, with the hashes of every wheel. `make constraints UPGRADE=--upgrade` moves them to what is newest.

.venv-lock/.stamp: constraints/lock.txt scripts/make-environment
	@scripts/make-environment .venv-lock constraints/lock.txt
	@touch $@

PINS = .venv-lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make constraints" $(UPGRADE)

constraints: .venv-lock/.stamp  ## resolve the hashed pins anew from pyproject.toml
	$(PINS) -o constraints/test.txt --extra cli --extra postgresql --extra openbao --extra aws --extra fastapi --extra arrow --extra dashboard --extra report --extra reconcile --extra telemetry --group dev --group key-services --group example --group others --group infrastructure pyproject.toml
	$(PINS) -o constraints/sqlalchemy20.txt --extra cli --extra postgresql --group dev --group sqlalchemy20 pyproject.toml
	$(PINS) -o constraints/ministack.txt --group ministack
	$(PINS) -o constraints/checkov.txt --group checkov
	$(PINS) -o constraints/samples.txt --no-deps --group samples
	$(PINS) -o constraints/demo.txt -c constraints/test.txt --extra cli pyproject.toml
	$(PINS) -o constraints/bare.txt -c constraints/test.txt pyproject.toml
	$(PINS) -o examples/departments/generator.requirements.txt -c constraints/test.txt examples/departments/generator.in
	$(PINS) -o examples/departments/service.requirements.txt -c constraints/test.txt --extra aws pyproject.toml
	$(PINS) -o constraints/build.txt -c constraints/test.txt --group build
	$(PINS) -o constraints/peers.txt --group peers
	$(PINS) -o constraints/lock.txt --group lock
