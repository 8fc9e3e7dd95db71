# Two commands: `make demo` builds the example models, `make test` passes the tests.
# Each sets up what it needs in .venv, with Python 3.11: `demo` what builds need (requirements-demo.lock),
# the others everything (requirements.lock, and PyTorch from requirements-torch.txt).

PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test check bench findings lock golden screenshots clean

demo: .venv/demo
	@echo "Building the examples of model_specs/ for every tier, into build/; a second time does nothing"
	$(BIN)/repo-builder build model_specs/
	@echo
	@echo "Serve it:   $(BIN)/repo-builder serve build/cpu"
	@echo "Query it:   $(BIN)/repo-builder infer digits --input model_specs/digits/sample.png"

test: check
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/ready: requirements.lock requirements-torch.txt pyproject.toml .ci/install
	$(PYTHON) -m venv .venv
	@echo "Setting up .venv from requirements.lock and requirements-torch.txt: 2.3 GB on disk, a few minutes"
	.ci/install $(BIN)/python requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements-torch.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@ .venv/demo

.venv/demo: requirements-demo.lock pyproject.toml .ci/install
	$(PYTHON) -m venv .venv
	@echo "Setting up .venv from requirements-demo.lock: 1.2 GB on disk, a minute or two; then the first model is built"
	.ci/install $(BIN)/python requirements-demo.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

bench: .venv/ready
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/quantization.py
	$(BIN)/python benchmarks/pruning.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/client.py
	.ci/engine start && trap '.ci/engine stop' EXIT && $(BIN)/python benchmarks/images.py
	$(BIN)/python benchmarks/serving_cpu.py
	$(BIN)/python benchmarks/auto.py
	$(BIN)/python benchmarks/student.py

findings:
	PYTHON=$(PYTHON) findings/run

lock: .venv/ready
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --no-strip-extras --generate-hashes --unsafe-package repo-builder --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-header \
	  --extra all --extra dev --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --no-strip-extras --generate-hashes --unsafe-package repo-builder --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-header --no-annotate \
	  --extra demo --constraint requirements.lock --output-file requirements-demo.lock pyproject.toml

golden: .venv/ready
	$(BIN)/python -m pytest tests/golden --regenerate

screenshots: demo
	$(BIN)/python -m tests.screenshots build docs/images

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
