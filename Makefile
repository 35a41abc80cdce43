# The two commands that a newcomer needs; each sets itself up on a fresh machine (Python 3.11 or newer, make).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: train test torture mutants lowest newest sdist lessons site build exercises lint types clean

train: $(VENV)/.ready
	@rm -rf runs/first
	$(RUN) -m npunet.train --data synthetic --base-channels 16 --depth 3 --tile 252 --steps 250 --evaluate-every 125 --out runs/first

test: lint
	$(RUN) -m pytest -n 2 --dist worksteal

# Kills, damaged files, two runs in one folder; hours. TORTURE="--kills 5 --files 100" for a short one.
torture: $(VENV)/.ready
	$(RUN) tests/torture.py $(TORTURE)

# Faults planted one at a time; an hour and more, goes on where it was stopped. MUTANTS="--count 300" for more than 100.
mutants: $(VENV)/.ready
	$(RUN) -m pip install --quiet --disable-pip-version-check 'coverage>=7.6'
	$(RUN) tests/mutants.py $(MUTANTS)

# The suite with the oldest versions that pyproject.toml allows, and with the newest that PyPI has; TESTS chooses some of it,
# PYTHON=python3.13 the interpreter. Each has a virtual environment of its own in build/.
lowest: RESOLUTION = lowest-direct
newest: RESOLUTION = highest
lowest newest: $(VENV)/.ready
	$(RUN) -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
	$(RUN) -m uv venv --quiet --clear --python $(PYTHON) build/$@
	$(RUN) -m uv pip install --quiet --python build/$@/bin/python --resolution $(RESOLUTION) --requirements pyproject.toml --extra test
	PYTHONPATH=. build/$@/bin/python -m pytest -n 2 --dist worksteal $(TESTS)

# What a packager gets: the source distribution, unpacked, with its own tests; TESTS chooses some of them.
sdist: $(VENV)/.ready
	$(RUN) -m pip install --quiet --disable-pip-version-check 'build>=1.2'
	rm -rf build/sdist && $(RUN) -m build --sdist --outdir build/sdist .
	cd build/sdist && tar xzf npunet-*.tar.gz && cd npunet-*/ && PYTHONPATH=. ../../../$(RUN) -m pytest $(TESTS)

# The notebooks, in the browser.
lessons: $(VENV)/.ready
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[lessons]'
	$(RUN) -m jupyter lab lessons/

# The site: build/site/index.html opens without a server. A minute, and another the first time for MathJax and JupyterLite.
site: $(VENV)/.site-ready
	$(RUN) docs/site/build.py
	$(RUN) docs/site/links.py build/site

$(VENV)/.site-ready: $(VENV)/.ready
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[site]'
	@touch $@

# The reader's own U-Net and the exercises of the lessons; ONLY="conv2d relu" or ONLY=03 chooses some of them.
build: $(VENV)/.ready
	@$(RUN) -m lessons.build $(ONLY) || true

exercises: $(VENV)/.ready
	@$(RUN) -m pytest -q -rN lessons/exercises $(if $(ONLY),-k $(ONLY)) || true

lint: $(VENV)/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check --exclude '*.ipynb' .

types: $(VENV)/.ready
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(RUN) -m mypy

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("npunet needs Python 3.11 or newer, found %s at %s; try: make PYTHON=python3.11 ..." % (sys.version.split()[0], sys.executable))'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) runs
