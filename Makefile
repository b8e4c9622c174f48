# Three verbs and a demo; CI runs exactly these.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 3  # processes that run the tests; 0 for none beside pytest itself

.PHONY: demo check test test-pyav bench soak screenshots clean

demo: .venv/installed
	$(BIN)/streamvis demo

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Beside mypy, which has one thread, the asserts of all tests are rewritten once for all workers.
test: .venv/installed-dev
	$(MAKE) --no-print-directory --jobs 2 check .venv/collected
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

# Decoding and recording with each major version of PyAV that has a wheel here; says what it skips.
test-pyav:
	$(PYTHON) tests/pyav_versions.py

bench: .venv/installed-dev
	$(BIN)/streamvis bench --json

# Hours: many rounds of the reliability tests, then 500 reconnects in 2 hours; writes docs/soak.md.
soak: .venv/installed-dev
	STREAMVIS_ROUNDS=20 STREAMVIS_RECONNECTS=200 $(BIN)/pytest tests/reliability tests/soak
	$(BIN)/python tests/soak/soak.py --minutes 120 --reconnects 500

# The pictures of the pages in docs/web.md, of a real run; under two minutes.
screenshots: .venv/installed-dev
	$(BIN)/python tests/web/screenshots.py

clean:
	rm -rf .venv build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	@echo 'installing into .venv: a few minutes; README.md says how many megabytes'
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps trackeval trackers  # they ask for opencv-python
	touch $@ .venv/installed

.venv/collected: .venv/installed-dev
	$(BIN)/pytest --collect-only -qq > $@.log || { cat $@.log; exit 1; }
	touch $@
