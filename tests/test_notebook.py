"""The notebook, from top to bottom on the real data."""

import json
import re
from pathlib import Path

import pytest

from fmnist_lightning.data.download import DataError, download

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "fashion_mnist.ipynb"


def test_notebook_has_small_outputs():
    text = NOTEBOOK.read_text()
    assert len(text) < 300_000
    assert "site-packages" not in text  # a path of the machine that ran it
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert max(len(cell["outputs"]) for cell in cells) < 30


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.filterwarnings("ignore")  # of the kernel
def test_notebook_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="needs the extra notebook")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra notebook")
    try:
        download("data")
    except DataError as error:
        pytest.skip(str(error))
    notebook = nbformat.read(NOTEBOOK, 4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert len(re.findall(r"epoch +\d+/12  train loss", text)) == 12
    (accuracy,) = re.findall(r"^test accuracy (\S+) %", text, re.MULTILINE)
    assert 88 < float(accuracy) < 91
    assert len(outputs) < 50
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 4
