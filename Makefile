# The two commands to know are `make demo` and `make test`; `make help` lists the rest.

PYTHON := .venv/bin/python
DEMO_DIR ?= conclave-demo
NAME ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo client test check lint types unit native-check bench campaign fix clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install all that is missing: Debian packages, .venv, the PKCS#11 module
	@tools/setup

demo: setup ## a cluster, a keyring, a client, a signature, and what to try next
	@.venv/bin/conclave demo $(DEMO_DIR)

test: setup ## everything that must hold before a change lands
	@$(MAKE) --no-print-directory check

check: lint types native-check unit

lint:
	@echo "==> ruff"
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --check --quiet .

types:
	@echo "==> mypy"
	@.venv/bin/mypy --no-error-summary

native-check:
	@echo "==> C tests"
	@$(MAKE) --no-print-directory -s -C native check

unit:
	@echo "==> pytest"
	@$(PYTHON) -m pytest -q -n 3 --dist loadgroup --no-loadscope-reorder

CLIENT_BUILD ?= build/client
CLIENT_PACKAGE ?= dist/conclave-client.tar.gz

# Directories that are the host's own have no entry: unpacking leaves their modes and owners alone.
client: setup ## what a client's host needs: dist/conclave-client.tar.gz, to be unpacked at /
	@rm -rf $(CLIENT_BUILD) && mkdir -p $(CLIENT_BUILD) $(dir $(CLIENT_PACKAGE))
	@.venv/bin/conclave client install --root $(CLIENT_BUILD)
	@cd $(CLIENT_BUILD) && find usr ! -type d -o -path 'usr/safenet*' | LC_ALL=C sort >../client.files
	@tar -C $(CLIENT_BUILD) --owner=0 --group=0 --mode=u+rwX,go+rX,go-w --no-recursion \
		--files-from=$(CLIENT_BUILD)/../client.files -czf $(CLIENT_PACKAGE)

bench: setup ## p11bench against Conclave and SoftHSM2, alternately: medians and ratios
	@$(PYTHON) -m bench $(ARGS)

campaign: setup ## a long run, reported below docs/campaigns: make campaign NAME=kill (api, fuzz, cluster, applications, conformance, core) ARGS=
	@$(PYTHON) -m campaigns $(NAME) $(ARGS)

fix: ## format and mend what ruff can
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

clean: ## remove what was built; .venv and demos stay
	@$(MAKE) --no-print-directory -s -C native clean
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
