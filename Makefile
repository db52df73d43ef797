# Commands for people in a hurry; tox.ini has all the others.

HOST ?= kernel

.PHONY: help bench check demo test

help:
	@echo 'make demo                 attach, look, detach on a real kernel'
	@echo 'make demo HOST=simulated  the same without root or packages'
	@echo 'make check                what needs no root and no packages: minutes'
	@echo 'make test                 all tests'
	@echo 'make bench                how long attaching takes'
	@echo 'make bench HOST=simulated what it costs the worker, without a lab'

demo:
ifeq ($(HOST),simulated)
	tools/setup.sh --demo --no-packages
else
	tools/setup.sh --demo
endif
	HOST=$(HOST) .venv/bin/python -m tools.demo

check:
	tools/setup.sh --no-packages
	tools/test.sh check

test:
	tools/setup.sh
	tools/test.sh

bench:
ifeq ($(HOST),simulated)
	tools/setup.sh --no-packages
	.venv/bin/python -m benchmarks.simulated
else
	tools/setup.sh
	.venv/bin/python -m benchmarks
endif
