import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from recsys import __version__
from tools.requirements import EXTRAS, direct_names

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FOLDERS = [
    *(f"data/{kind}" for kind in ("raw", "external", "interim", "processed")),
    *("models", "notebooks", "reports", "reports/figures", "references", "configs"),
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_says_what_writes_it(folder):
    assert (ROOT / folder / "README.md").read_text(encoding="utf-8").strip()


def test_the_version_is_written_once_and_the_same_everywhere():
    assert PROJECT["project"]["version"] == __version__


def test_the_changelog_has_a_place_for_the_next_change():
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_requirements_pin_exactly_what_the_project_names():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    parted = [re.fullmatch(r"([^=]+)==([^;]+)(;.*)?", line) for line in lines if not line.startswith("#")]
    pins = {line[1] + (line[3] or ""): line[2] for line in parted if line}
    assert sorted(pins, key=str.lower) == direct_names(ROOT / "pyproject.toml")
    assert all(re.fullmatch(r"[\d.]+", version) for version in pins.values())


def test_the_extras_that_are_installed_exist():
    assert set(EXTRAS) <= set(PROJECT["project"]["optional-dependencies"])
    assert f".[{','.join(EXTRAS)}]" in MAKEFILE


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*files: list[str]) -> set[str]:
    """Distributions that the lines of requirements ask for."""
    return {normal(re.split(r"[\[<>=!~; ]", line)[0]) for lines in files for line in lines if line[:1].isalpha()}


def imported_packages(folder: str) -> dict[str, Path]:
    """Third-party packages that the files below a folder import, anywhere in them, each with one of these files."""
    names = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0]: path for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names[node.module.split(".")[0]] = path
    ours = {"recsys", "benchmarks", "tools"}
    return {name: path for name, path in names.items() if name not in sys.stdlib_module_names | ours}


def distributions_of(package: str) -> set[str]:
    """Distributions that hold an importable package; its own name where it is not installed."""
    return {normal(name) for name in packages_distributions().get(package, [package])}


@pytest.mark.parametrize("folder", ["recsys", "benchmarks", "tools"])
def test_every_package_that_is_imported_is_declared(folder):
    project = PROJECT["project"]
    declared = requirements(project["dependencies"], *project["optional-dependencies"].values())
    peers = requirements((ROOT / "benchmarks/peers/requirements.txt").read_text(encoding="utf-8").splitlines())
    undeclared = {
        package: str(path.relative_to(ROOT))
        for package, path in imported_packages(folder).items()
        if not distributions_of(package) & (declared | peers if "peers" in path.parts else declared)
    }
    assert not undeclared


def test_every_dependency_without_which_nothing_runs_is_imported():
    used = set().union(*(distributions_of(package) for package in imported_packages("recsys")))
    # TensorBoard's events are written by Lightning, workbooks by Polars, requests by uvicorn: they import them.
    assert requirements(PROJECT["project"]["dependencies"]) - used == {
        "httptools",
        "tensorboard",
        "uvloop",
        "xlsxwriter",
    }


def test_ruff_and_flake8_agree_on_the_length_of_a_line():
    flake8 = configparser.ConfigParser()
    flake8.read(ROOT / "setup.cfg")
    assert flake8.getint("flake8", "max-line-length") == PROJECT["tool"]["ruff"]["line-length"]


def phony() -> list[str]:
    return re.search(r"^\.PHONY: (.*?)\n\n", MAKEFILE, re.DOTALL | re.MULTILINE)[1].replace("\\\n", " ").split()


def make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, env=clean)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_help_lists_every_target():
    listed = re.findall(r"^  make ([a-z-]+) ", make("help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony())


@needs_make
def test_plain_make_shows_the_help():
    assert make().stdout == make("help").stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The makefile with a configuration and an installed environment, in which each command only touches its output."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small.yaml").write_text("name: small\ndata:\n  source: hm\n", encoding="utf-8")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


def steps(copy: Path, *words: str) -> list[str]:
    done = make("-n", *words, "CONFIG=configs/small.yaml", folder=copy)
    return re.findall(r"^\.venv/bin/recsys (\w+)", done.stdout, re.MULTILINE)


def finish(copy: Path) -> None:
    for second, name in enumerate(
        ("data/processed/hm/manifest.json", "models/small/weights.safetensors", "reports/small/recommendations/.done",
         "reports/small/metrics.json", "reports/small/index.html")
    ):  # fmt: skip
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
        os.utime(copy / name, (2_000_000_000 + second,) * 2)


@needs_make
def test_the_report_takes_every_step_once_and_in_order(copy):
    assert steps(copy, "report") == ["dataset", "train", "predict", "predict", "evaluate", "report"]


@needs_make
def test_what_is_done_is_not_done_again(copy):
    finish(copy)
    assert steps(copy, "report") == []


@needs_make
@pytest.mark.parametrize(
    ("changed", "repeated"),
    [
        ("configs/small.yaml", ["dataset", "train", "predict", "predict", "evaluate", "report"]),
        ("data/processed/hm/manifest.json", ["train", "predict", "predict", "evaluate", "report"]),
        ("models/small/weights.safetensors", ["predict", "predict", "evaluate", "report"]),
        ("reports/small/metrics.json", ["report"]),
        (".venv/.ready", []),
    ],
)
def test_a_change_repeats_only_what_reads_it(copy, changed, repeated):
    finish(copy)
    os.utime(copy / changed, (2_100_000_000,) * 2)
    assert steps(copy, "report") == repeated


@needs_make
@pytest.mark.parametrize("target", ["demo", "data", "train", "predict", "evaluate", "report", "test", "check"])
def test_every_target_sets_up_first_where_nothing_is_installed(copy, target):
    (copy / ".venv" / ".ready").unlink()
    assert "pip install" in make("-n", target, "CONFIG=configs/small.yaml", folder=copy).stdout


@needs_make
def test_an_old_python_is_refused_in_one_line(copy):
    (copy / ".venv" / ".ready").unlink()
    old = copy / "python3"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    done = make("setup", f"PYTHON={old}", folder=copy)
    assert done.returncode != 0
    assert "expected Python 3.11 or later" in done.stderr
    assert not (copy / ".venv" / "bin" / "python").exists()


def test_continuous_integration_runs_what_a_person_types():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert {"demo", "check", "test"} == set(re.search(r"for step in (.*?);", script)[1].split())
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_the_readme_starts_with_one_sentence_and_the_one_command():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert any("make demo" in line for line in lines[:15])
    assert any("demo-output" in line for line in lines[:30])


def test_the_package_says_it_is_typed():
    assert (ROOT / "recsys" / "py.typed").exists()
