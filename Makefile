# make reproduce and make test need python3 >= 3.11 and a package index; each sets up .venv by itself.
SHELL := bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
PROFILE ?= auto
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
PUBLISHED := cpu
JOBS ?= 2
N ?= 200
SEED ?= 0
CHROMIUM ?= $(firstword $(shell command -v chromium chromium-browser google-chrome))
# The studies of the notebooks. A comment behind the value would leave blanks in it.
export PYTHONPATH := $(CURDIR)/notebooks

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than 3.11: make PYTHON=/path/to/a/newer/python"; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "no virtual environment: on Debian, apt install python3-venv"; exit 2; }
	@echo "Installing the locked versions into $(VENV), about two minutes ..."
	@$(if $(HASHES),$(PIP) --require-hashes --no-deps -r requirements.hashes.lock,$(PIP) -c requirements.lock torch)
	@$(PIP) $(if $(HASHES),--no-deps --no-build-isolation -e .,-c requirements.lock -e '.[book,test]')
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed  ## the environment in .venv; HASHES=1 takes no file but those of requirements.hashes.lock

.PHONY: reproduce
reproduce: setup  ## run every experiment and build the book; PROFILE=quick, cpu, extended or paper; MINUTES=9 stops in time
	@$(RUN) -m cryo_fewshot reproduce --profile $(PROFILE) $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: notebook
notebook: setup  ## one notebook with new parameters: NB=table1 P="snrs='0.1' n_shot=3"
	@$(RUN) -m cryo_fewshot notebook $(NB) "$(P)"

# The pages are audited with axe-core where npm is there to fetch it.
$(VENV)/node_modules/axe-core: | setup
	@command -v npm >/dev/null && npm install --silent --no-save --prefix $(VENV) axe-core@4.14.1 || true

.PHONY: test
test: setup $(VENV)/node_modules/axe-core  ## all tests, and the published notebooks against their outputs
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) --dist loadfile -p no:warnings --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout 300 --nbval-sanitize-with tests/nbval_sanitize.cfg book/notebooks/*.ipynb
	@$(VENV)/bin/ruff check --quiet .
	@said=$$($(VENV)/bin/lint-imports 2>&1) || { echo "$$said"; exit 1; }

.PHONY: mutants
mutants: setup  ## do the tests notice wrong code? N=200 random changes, each against its file's tests; about an hour
	@$(PIP) -c requirements.lock -e '.[mutants]'
	@OMP_NUM_THREADS=1 $(RUN) scripts/mutants.py --sample $(N) --seed $(SEED)

.PHONY: publish
publish: setup  ## run the notebooks on results/$(PUBLISHED) into book/notebooks, the published pages
	@$(RUN) -m cryo_fewshot publish --profile $(PUBLISHED)

.PHONY: book
book: setup  ## build the published book from the executed notebooks
	@$(RUN) -m cryo_fewshot book

.PHONY: pdf
pdf: book  ## the book as one PDF, _build/book.pdf; needs Chromium or Chrome, and poppler's pdfunite
	@test -n "$(CHROMIUM)" || { echo "no browser: install chromium, or make pdf CHROMIUM=/path/to/chrome"; exit 2; }
	@rm -rf _build/pdf && mkdir -p _build/pdf
	@n=100; for page in $$(sed -nE 's/^( *- file|root): //p' book/_toc.yml); do n=$$((n + 1)); \
	  $(CHROMIUM) --headless --no-sandbox --disable-gpu --no-pdf-header-footer --virtual-time-budget=10000 \
	    --print-to-pdf="_build/pdf/$$n.pdf" "file://$(CURDIR)/_build/html/$$page.html" 2>/dev/null; done
	@pdfunite _build/pdf/*.pdf _build/book.pdf && echo "Done: _build/book.pdf"

.PHONY: verify
verify: setup  ## does a published page follow from the stored results? FIG=table1
	@$(RUN) -m cryo_fewshot verify $(FIG)

.PHONY: structures
structures: setup  ## make the bead library anew from coordinate files: SOURCE=folder
	@$(RUN) scripts/build_structures.py $(if $(SOURCE),--source $(SOURCE))

.PHONY: lock
lock:  ## refresh requirements.lock from a fresh environment, and the hashes
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; $(PYTHON) -m venv "$$tmp" \
	  && "$$tmp/bin/pip" install --quiet torch==2.13.0 && "$$tmp/bin/pip" install --quiet '.[book,test]' \
	  && "$$tmp/bin/pip" freeze --exclude cryo-fewshot | sed "s,+[a-z0-9.]*$$,," > requirements.lock
	@$(MAKE) hashes

.PHONY: hashes
# For the oldest Python that has to do, Debian 12's.
hashes:  ## requirements.hashes.lock: the files of requirements.lock, for Linux on x86-64 with or without a GPU
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; $(PYTHON) -m venv "$$tmp" \
	  && "$$tmp/bin/pip" install --quiet uv==0.13.9 && "$$tmp/bin/uv" pip compile --quiet --generate-hashes --no-annotate \
	  --python-version 3.11.2 --python-platform x86_64-manylinux_2_28 --custom-compile-command "make hashes" \
	  requirements.lock -o requirements.hashes.lock

.PHONY: bench
bench: setup  ## measure this package, a plain reference and the machine's limit, side by side
	@$(RUN) benchmarks/bench.py

.PHONY: doctor
doctor: setup  ## versions, device, memory
	@$(RUN) -m cryo_fewshot doctor

.PHONY: clean
clean:  ## remove the environment and everything that reproduce made
	rm -rf $(VENV) _build results/quick results/smoke
