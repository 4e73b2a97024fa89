# Both commands make their own virtual environment when none is there and install what they need.
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.xlens-installed

.PHONY: demo test lint

demo: $(STAMP)
	$(BIN)/xlens demo

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .

$(STAMP): pyproject.toml
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP)
