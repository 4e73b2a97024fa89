# The commands make their own virtual environment when none is there and install what they need.
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.xlens-installed

EXAMPLE := examples/xlens_latentshift
PLUGIN := $(VENV)/.xlens-plugin-installed

RELEASE := $(VENV)/.xlens-release-installed
# The interpreter of the environments that a wheel is tried in: make dist-newest PYTHON=python3.12
PYTHON ?= $(abspath $(BIN))/python

.PHONY: demo docs dist dist-lowest dist-newest dist-files examples test lint plugin venv-package

demo: $(STAMP)
	$(BIN)/xlens demo

# The last of the examples, solar_cells.py, takes packages of its own and a quarter of an hour; it says so itself.
SCRIPTS := examples/quickstart.py $(wildcard examples/integrations/*.py)

examples: $(STAMP)
	for script in $(SCRIPTS); do echo "== $$script"; $(BIN)/python $$script --out examples-out || exit 1; done

# One thread a worker: more of them get in each other's way.
test: $(STAMP) $(PLUGIN)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# From nothing, so that what no page leads to any more is gone. A warning is an error; links and search are tried.
docs: $(STAMP)
	rm -rf site docs/api docs/run
	mkdir -p docs/run/pages
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going docs site
	$(BIN)/python docs/building/links.py site
	$(BIN)/python docs/building/words.py site

# The example of a third party's distribution: built as a wheel, and installed from it.
plugin: $(PLUGIN)

# What the type checker learns of torch is kept in .mypy_cache: the first time takes a minute or two, and then seconds.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/typing/documents.py

# Built, checked, and tried in an empty environment; docs/releasing.md says more. None of it is a part of make test.
dist: dist-files
	$(BIN)/python releasing/environment.py newest --python $(PYTHON)

dist-newest: dist-files
	$(BIN)/python releasing/environment.py newest --python $(PYTHON) --tests

dist-lowest: dist-files
	$(BIN)/python releasing/environment.py lowest --python $(PYTHON) --tests

dist-files: $(RELEASE)
	$(BIN)/python releasing/build.py
	$(BIN)/python releasing/contents.py

$(RELEASE): pyproject.toml
	test -x $(BIN)/pip || python3 -m venv $(VENV) || $(MAKE) --no-print-directory venv-package
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "build>=1.2" "twine>=5.1" "uv>=0.4"
	touch $(RELEASE)

# Debian keeps the part of Python that makes virtual environments in a package of its own.
venv-package:
	rm -rf $(VENV)
	test "$$(id -u)" = 0 || { echo "first: sudo apt-get install python3-venv"; exit 1; }
	apt-get update -qq && apt-get install -y -qq python3-venv
	python3 -m venv $(VENV)

$(STAMP): pyproject.toml
	test -x $(BIN)/pip || python3 -m venv $(VENV) || $(MAKE) --no-print-directory venv-package
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP)

$(PLUGIN): $(STAMP) $(EXAMPLE)/pyproject.toml $(EXAMPLE)/README.md $(wildcard $(EXAMPLE)/src/*/*.py)
	rm -rf $(VENV)/wheels
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w $(VENV)/wheels ./$(EXAMPLE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall $(VENV)/wheels/*.whl
	touch $(PLUGIN)
