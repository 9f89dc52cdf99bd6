# The two commands: `make demo` and `make test`. Each sets up what it needs, once.

STACK  ?= onedl
OPS    ?= mmhybrid
VENV   ?= .venv$(if $(filter-out onedl,$(STACK)),-$(STACK))$(if $(filter-out mmhybrid,$(OPS)),-$(OPS))
PYTHON ?= python3
EPOCHS ?=

SETUP  := $(PYTHON) tools/install.py --venv "$(VENV)" --stack "$(STACK)" --ops "$(OPS)"
BIN    := "$(VENV)/bin"
CODE   := $(wildcard mmhybrid tools tests configs docs setup.py)
SPHINX := "$(VENV)/bin/python" -m sphinx -q -W --keep-going docs docs/_build

.DEFAULT_GOAL := help
.PHONY: help install test test-openmmlab demo lint docs docs-links clean

help:     ## print this list
	@echo 'make TARGET [STACK=onedl|openmmlab] [OPS=mmhybrid|compiled] [VENV=$(VENV)] [PYTHON=$(PYTHON)]'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

install:  ## create VENV with the pinned stack and this checkout; does nothing when nothing changed
	@$(SETUP)

test: install  ## run the whole test suite, a process for each core
	"$(VENV)/bin/python" -m pytest -q --durations=10 -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test-openmmlab:  ## the same on the OpenMMLab originals, in an environment of their own
	@$(MAKE) --no-print-directory test STACK=openmmlab

demo: install  ## train and evaluate a small Mask R-CNN with ViT-CoMer on drawn images; EPOCHS=1 is quicker
	"$(VENV)/bin/python" tools/demo.py $(EPOCHS:%=--epochs %)

lint: install  ## ruff, its formatter, and mypy, which reads the types of the stack
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

docs: install  ## build the site into docs/_build/html; a warning is an error
	"$(VENV)/bin/python" -m pip install -q --disable-pip-version-check -r requirements/docs.txt
	$(SPHINX)/html -b html
	@echo 'docs/_build/html/index.html'

docs-links: docs  ## look at the site's links to other places
	$(SPHINX)/links -b linkcheck

clean:    ## remove caches and build products; leaves VENV and work_dirs
	rm -rf build dist docs/_build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
