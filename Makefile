# make probe   measure this machine and write a report into reports/
# make test    run the tests
# make test-planners  load exports in the planners themselves, in environments of their own
# make test-aot  compile every Triton configuration for every architecture
# make fuzz    look for new examples that break a reader or a formula (the tests keep to the same ones)
# make docs    build the pages of docs/ as a site into site/, warnings are errors
# make screenshots  pictures of a report's first screen into docs/images/ (REPORT names another than the newest)
# make reference  draw the kept reports in reports/reference/ as the code draws them now
# make check   static checks and tests, as the project's own gate does
# Each makes .venv itself. PYTHON names the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
OUT := reports/
REPORT := reports/latest
# Side by side, but each file's tests in one process, so that its whole run is made once.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
export PYTHON

.PHONY: probe test test-planners test-aot fuzz docs screenshots reference check bench clean

probe: $(VENV)/.ready
	$(VENV)/bin/probe all --out $(OUT)

# First what is fast; then pages in a browser, whole runs, those with planted faults and a Ray cluster,
# which wait more than they compute (ALSO="or aot_all" compiles meanwhile); tests that time something
# run alone, last.
test: $(VENV)/.ready-test
	$(VENV)/bin/python -m pytest $(PARALLEL) -m "not browser and not whole and not faults and not alone and not ray and not aot_all and not planners"
	$(VENV)/bin/python -m pytest $(PARALLEL) -n $$(($$(nproc) + 1)) -m "(browser or whole or faults or ray $(ALSO)) and not alone"
	$(VENV)/bin/python -m pytest -m alone

check: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(MAKE) test

# The planners themselves on exported files; what cannot be installed or cloned is skipped.
test-planners: $(VENV)/.ready-test
	tools/planners/make-venvs.sh
	$(VENV)/bin/python -m pytest -m planners -s

# Every Triton configuration for every architecture: instructions, shared memory, spills.
test-aot: $(VENV)/.ready-test
	$(VENV)/bin/python -m pytest -n auto -m aot_all

fuzz: $(VENV)/.ready-test
	$(VENV)/bin/python -m pytest $(PARALLEL) -m hypothesis --hypothesis-profile fuzz

docs: $(VENV)/.ready-dev
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs site

screenshots: $(VENV)/.ready-test
	$(VENV)/bin/python tools/screenshots.py $(REPORT)

bench: $(VENV)/.ready-test
	$(VENV)/bin/python -m pytest benchmarks --benchmark-enable

reference: $(VENV)/.ready
	$(VENV)/bin/python tools/reference_run.py

$(VENV)/.ready: pyproject.toml constraints.txt tools/make-venv.sh
	tools/make-venv.sh $(VENV)
	@touch $@

$(VENV)/.ready-test: pyproject.toml constraints.txt tools/make-venv.sh
	tools/make-venv.sh $(VENV) test
	@touch $@ $(VENV)/.ready

$(VENV)/.ready-dev: pyproject.toml constraints.txt tools/make-venv.sh
	tools/make-venv.sh $(VENV) test,dev
	@touch $@ $(VENV)/.ready-test $(VENV)/.ready

clean:
	rm -rf $(VENV) site .venv-wheel .venv-planners-* dist .pytest_cache .mypy_cache .ruff_cache
