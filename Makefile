# The course in two commands: `make book` builds it, `make test` checks it. Both make .venv first and redo only what
# changed. README.md has the same in plain pip.

VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
START := $(shell date +%s)

# The package of this folder, in UTF-8, whatever else Python and pip are told to do.
export PYTHONPATH := $(CURDIR)
export PYTHONUTF8 := 1
unexport PYTHONHOME PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS PYTHONSAFEPATH
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_DRY_RUN PIP_NO_DEPS PIP_REQUIREMENT PIP_EDITABLE

# One after the other also under -j: each of them uses all cores by itself.
.NOTPARALLEL:

book: $(VENV)/.installed
	@$(BIN)/python book/_ext/build.py --install-seconds $$(($$(date +%s) - $(START)))

# Tests and notebooks in one run, so that one closing line counts them all.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n logical --nbval-lax --nbval-current-env --nbval-cell-timeout=300 tests book/index.ipynb exercises

# Whether Colab can do all this, in a twin of it: some minutes, so not part of `make test`.
colab: $(VENV)/.installed
	$(BIN)/python tests/colab/twin.py

serve: $(VENV)/.installed
	@$(BIN)/python book/_ext/serve.py $(PORT)

# The experiments on CIFAR-10, hours on two cores. ARGS="curves --jobs 2" is one of them.
ARGS ?= all
reproduce: $(VENV)/.installed
	$(BIN)/python -m bncourse reproduce $(ARGS)

student: $(VENV)/.installed
	$(BIN)/python -m bncourse student

clean:
	rm -rf $(VENV) _build build .pytest_cache .hypothesis *.egg-info

.PHONY: book test colab serve reproduce student clean

# Any of these will do; PYTHON=... picks one.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)

# The stamp is written last, so an installation that was cut short is done again. It says where that was: in a copied or
# renamed folder the packages still point to the former one.
MOVED := $(shell test -e $(VENV)/.installed && read -r at <$(VENV)/.installed && test "$$at" != "$$(pwd -P)" && echo moved)
$(if $(MOVED),.PHONY: $(VENV)/.installed)

$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	@found=; for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then break; fi; \
		found="$${found:+$$found, }$$python is $$version"; version=; \
	done; \
	if [ -z "$$version" ]; then \
		echo "The course needs Python 3.11 or newer; found: $${found:-none ($(PYTHONS))}." \
			"Install one, or name it: make book PYTHON=python3.12" >&2; exit 1; \
	fi; \
	$$python -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$$python ($$version) cannot make a virtual environment: its venv module is missing." \
			"On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	rm -f $@; \
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Making $(VENV) with $$python ($$version)"; $$python -m venv --clear $(VENV); } && \
	echo "Installing the packages of requirements.txt into $(VENV); torch is the largest, so this takes some minutes." && \
	$(BIN)/python -m pip install --no-user --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt && pwd -P >$@
