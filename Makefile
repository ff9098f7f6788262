# Each target is one script; `make` alone lists them.
.PHONY: help demo test setup setup-tests lint types bench libvirt libvirt-stop clean

help:
	@echo "make demo          a real machine, up, shared and provisioned (examples/hello)"
	@echo "make test          lint, types and every test, real guests included"
	@echo "make setup         install what is missing, make .venv"
	@echo "make lint types    only these checks"
	@echo "make bench         measure against the budgets of docs/architecture.md"
	@echo "make libvirt       see that libvirt runs;  make libvirt-stop  ends what that started"
	@echo "make clean         remove .venv and caches"

demo:
	@scripts/demo

test:
	@scripts/test

setup:
	@scripts/setup

setup-tests:
	@scripts/setup --tests

lint: setup-tests
	@scripts/lint

types: setup
	@.venv/bin/mypy

bench: setup-tests
	@scripts/bench

libvirt: setup
	@scripts/libvirt start

libvirt-stop:
	@scripts/libvirt stop

clean:
	@scripts/clean
