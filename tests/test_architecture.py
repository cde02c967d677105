import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "recsys").rglob("*.py"))
}
CODE = [path for folder in ("recsys", "benchmarks", "tools", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def parsed(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    names = set()
    for node in parsed(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_the_contracts_of_import_linter_are_kept(root):
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_folder_and_file_at_the_root_has_its_place_among_the_layers(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    placed = {name.strip() for layer in contract["layers"] for name in re.split("[|:]", layer)}
    verbs = {module for module in MODULES if module.count(".") == 2 and module.startswith("recsys.modeling.")}
    verbs -= {module for module in verbs if MODULES[module].name == "__init__.py"}
    # A verb ties together what the layers below it hold, and stands in none of them.
    homeless = [
        module
        for module in set(MODULES) - {"recsys", "recsys.modeling", "recsys.__main__"} - verbs
        if not any(module == name or module.startswith(f"{name}.") for name in placed)
    ]
    assert not homeless


@pytest.mark.parametrize("module", MODULES)
def test_only_what_reads_and_writes_files_imports_a_data_engine(module):
    parts = ("engine", "exports", "inspection", "reading", "sources", "synthetic.write", "text_codes")
    if not module.startswith(tuple(f"recsys.data.{part}" for part in parts)):
        assert not imported(MODULES[module]) & {"polars", "duckdb", "ibis", "pyspark", "pandas"}


@pytest.mark.parametrize("module", MODULES)
def test_only_modeling_imports_torch(module):
    light = ("recsys.modeling.recommenders.registry", "recsys.modeling.recommenders.rules")
    allowed = module.startswith("recsys.modeling") and not module.startswith(light)
    if not allowed:
        assert not imported(MODULES[module]) & {"torch", "pytorch_lightning", "lightning", "torchmetrics"}


IMPORT_EVERYTHING = """
import json, logging, os, random, sys
from importlib import import_module
from pathlib import Path

def state():
    return {"environment": dict(os.environ), "logging": len(logging.getLogger().handlers), "seed": random.getstate()}

light, heavy = json.loads(sys.argv[1])
import polars, sklearn, typer, typer.rich_utils  # what others do to the environment is theirs
before = state()
for name in light:
    import_module(name)
with_torch = "torch" in sys.modules
changed = [what for what in before if before[what] != state()[what]]
import implicit, pytorch_lightning
before = state()
for name in heavy:
    import_module(name)
changed += [what for what in before if before[what] != state()[what]]
print(json.dumps({"torch": with_torch, "changed": changed, "files": [str(path) for path in Path().rglob("*")]}))
"""


def test_importing_modules_has_no_side_effect_and_needs_no_torch_outside_modeling(tmp_path):
    heavy = [module for module in MODULES if module.startswith(("recsys.modeling", "recsys.serving"))]
    light = [module for module in MODULES if module not in heavy]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING, json.dumps([light, heavy])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"torch": False, "changed": [], "files": []}


UNSAFE_CALLS = {
    "eval",
    "exec",
    "pickle.load",
    "pickle.loads",
    "yaml.load",
    "yaml.unsafe_load",
    "joblib.load",
    "os.system",
}


def calls(path: Path) -> list[ast.Call]:
    return [node for node in parsed(path) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_reads_a_pickle_or_runs_text_as_code(path):
    assert not imported(path) & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for call in calls(path):
        name = ast.unparse(call.func)
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in UNSAFE_CALLS, f"line {call.lineno}: {name}"
        assert words.get("allow_pickle", "False") == "False", f"line {call.lineno}: allow_pickle"
        if name == "torch.load":
            assert words.get("weights_only") == "True", f"line {call.lineno}: torch.load without weights_only=True"


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_error_is_swallowed_unnamed(path):
    handlers = [node for node in parsed(path) if isinstance(node, ast.ExceptHandler)]
    assert all(handler.type is not None for handler in handlers)


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short_enough_to_read(module):
    functions = [node for node in parsed(MODULES[module]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    # A command's options are a table: lines count from the first one that does something.
    lengths = {node.name: node.end_lineno - node.body[0].lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}
