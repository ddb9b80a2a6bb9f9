"""The notebooks run from top to bottom, in a folder of their own."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    NotebookClient(notebook, timeout=240, kernel_name="python3",
                   resources={"metadata": {"path": str(tmp_path)}}).execute(env=dict(os.environ))
    shown = [o for cell in notebook.cells for o in cell.get("outputs", ()) if "data" in o]
    kinds = {kind for output in shown for kind in output["data"]}
    assert {"image/png", "text/html"} <= kinds
    report = (tmp_path / "first_comparison.html").read_text()
    assert "A first comparison" in report and "minilm" in report
