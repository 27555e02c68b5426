"""The notebooks run from a clean clone, and are committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    """Return the path of each notebook in turn."""
    return request.param  # type: ignore[no-any-return]


def test_there_are_notebooks() -> None:
    """The folder is not empty, so the tests below do run."""
    assert NOTEBOOKS


# What warns in this process is the messaging with the kernel; the notebook's own warnings are its outputs.
@pytest.mark.filterwarnings("default")
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell of a notebook runs in its folder, writes nothing to stderr, and the last figure is drawn."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the kernel's folder is another one
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # other tests may ask for a backend without figures
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_notebook_is_committed_without_outputs(path: Path) -> None:
    """A notebook holds no outputs and no counts, so that a diff shows what somebody wrote."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
