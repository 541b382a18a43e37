"""The notebook, from top to bottom on the real data."""

import json
import re
from pathlib import Path

import pytest

from fmnist_lightning.data.download import DataError, download

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "fashion_mnist.ipynb"


def test_notebook_is_committed_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.filterwarnings("ignore")  # of the kernel
def test_notebook_runs(tmp_path: Path) -> None:
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
    assert "Epoch 12: 100%" in text  # the bar
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 4
