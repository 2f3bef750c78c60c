# Everything a beginner needs: `make demo` and `make test`. `make help` tells the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint format bench stress mutants docs clean

# Variables to set on the command line: make build JOBS=4 TORCH_PREFIX=/opt/libtorch
JOBS ?= 2
TORCH_PREFIX ?=
TRIALS ?=
INPUTS ?=
LIMIT ?=
SEED ?=
SANITIZERS ?=
BUILDS ?=
PRESET_LIMIT ?=
ONLY ?=
TREADLE_WERROR ?= OFF
ROOM ?=
FILES ?=
CHANGED ?=
QUICK ?=
BENCH ?=

release := build/release
# Errors go to stderr and stay visible.
configure = cmake --preset release -DTORCH_PREFIX="$(TORCH_PREFIX)" -DTREADLE_BUILD_BENCHES=$(1) -DTREADLE_WERROR=$(TREADLE_WERROR) >/dev/null
compile = cmake --build $(release) --parallel $(JOBS)
ctest = tools/test.sh $(release) --parallel $(JOBS)

# What is promised of the demo, tried on the weights that it saved; says nothing when it holds.
demo_result = $(release)/bin/treadle evaluate --config-file configs/fashion_mnist_cnn.yaml --resume \
  TEST.EXPECTED_RESULTS "[['classification', 'accuracy', 100.0, 8.5]]"

export TORCH_PREFIX

help:
	@echo 'make setup    install what is missing: Debian packages, and LibTorch in .venv'
	@echo 'make build    the release build in build/release: the command build/release/bin/treadle, and the examples'
	@echo 'make demo     set up, build, train a small network on Fashion-MNIST, show the result'
	@echo 'make test     set up, build, run every test'
	@echo 'make lint     formatting, clang-tidy, every public header alone (CHANGED=1: changed files only; FILES="a.cpp …")'
	@echo 'make format   put every source file into the format that lint expects'
	@echo 'make bench    build and run the benchmarks, end with a table (QUICK=1: a short run; BENCH="solver data": only those)'
	@echo 'make stress   kills, power loss, damaged files, many times (TRIALS=50 INPUTS=1000000 LIMIT=1800 SANITIZERS=1 BUILDS=1)'
	@echo 'make mutants  break the code on purpose, one break at a time, and see whether a test notices (ROOM="comm launch")'
	@echo 'make docs     check the links and file names in the documentation'
	@echo 'make clean    remove build/ and output/; what setup installed stays'
	@echo
	@echo 'JOBS=2 sets how many compilers run at once, TORCH_PREFIX=DIR takes the LibTorch 2.x in DIR; TREADLE_WERROR=ON stops at warnings.'

setup:
	@tools/setup.sh

build: setup
	@$(call configure,OFF)
	@$(compile) --target treadle_product

demo: setup
	@$(call configure,OFF)
	@$(compile) --target treadle_command
	@$(release)/bin/treadle train --config-file configs/fashion_mnist_cnn.yaml
	@$(demo_result) >/dev/null

test: setup
	@$(call configure,OFF)
	@$(compile)
	@$(ctest)

lint: setup
	@JOBS=$(JOBS) CHANGED="$(CHANGED)" tools/lint.sh check $(FILES)

format: setup
	@tools/lint.sh format $(FILES)

bench: setup
	@$(call configure,ON)
	@$(compile) --target treadle_benches
	@QUICK=$(QUICK) tools/bench.py $(release)/benches $(BENCH)

stress: setup
	@$(call configure,OFF)
	@$(compile)
	@TRIALS=$(TRIALS) INPUTS=$(INPUTS) LIMIT=$(LIMIT) SEED=$(SEED) SANITIZERS=$(SANITIZERS) BUILDS=$(BUILDS) PRESET_LIMIT=$(PRESET_LIMIT) ONLY='$(ONLY)' tools/stress.py $(release)

mutants: setup
	@tools/mutants.py -j $(JOBS) $(ROOM)

docs: setup
	@$(call configure,OFF)
	@cmake --build $(release) --target test_architecture --parallel $(JOBS)
	@$(release)/tests/test_architecture --gtest_brief=1 --gtest_filter='Docs.*'

clean:
	rm -rf build output
