import inspect
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import typer

from recsys import __version__
from recsys.cli import VERBS, build_app
from recsys.console import run
from tools.pages import commands, options


def typed(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str, str]:
    """Exit code, stdout and stderr of ``recsys <words>``, run in this process."""
    asked = next((word for word in words if word in VERBS), None)
    with pytest.raises(SystemExit) as stopped:
        run(build_app(asked), words)
    return (stopped.value.code or 0, *capsys.readouterr())


def callbacks(app: typer.Typer) -> list[object]:
    return [command.callback for command in app.registered_commands]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_listed_with_its_help(verb, capsys):
    code, out, _ = typed(["--help"], capsys)
    assert code == 0
    line = next(line for line in out.splitlines() if f" {verb} " in line)
    assert VERBS[verb].help.split()[0] in line


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_of_its_own(verb, capsys):
    code, out, _ = typed([verb, "--help"], capsys)
    assert code == 0
    usage = next(line for line in out.splitlines() if "Usage:" in line)
    assert f" {verb} " in usage


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_stands_in_the_documentation(verb):
    section = commands().partition(f"## `recsys {verb}`")[2].partition("\n## ")[0]
    assert section
    for callback in callbacks(import_module(VERBS[verb].module).app):
        assert inspect.getdoc(callback), f"{callback} has no help"
        for name, _, meaning in options(callback):
            assert name in section
            assert meaning, f"{verb} {name} does not say what it means"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_and_its_module_are_the_same_command(verb):
    module = import_module(VERBS[verb].module)
    inner = build_app(verb)
    group = next((group.typer_instance for group in inner.registered_groups if group.name == verb), None)
    if group is not None:
        assert group is module.app
    else:
        command = next(command for command in inner.registered_commands if command.name == verb)
        assert [command.callback] == callbacks(module.app)
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert 'if __name__ == "__main__":\n    run(app)' in source


@pytest.mark.parametrize(
    "arguments", [["-m", "recsys", "dataset"], ["-m", "recsys.cli", "dataset"], ["-m", "recsys.dataset"]]
)
def test_all_ways_to_type_a_verb_answer_alike(arguments, root):
    done = subprocess.run(
        [sys.executable, *arguments, "main", "--config", "no/such.yaml"], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: configuration no/such.yaml is missing")
    assert done.stderr.count("\n") == 1


HELP = """
import sys
sys.argv = ["recsys", "--help"]
from recsys.cli import main
try:
    main()
finally:
    print(sorted({"torch", "polars", "duckdb", "pyarrow", "pandas", "matplotlib"} & set(sys.modules)), file=sys.stderr)
"""


def test_help_answers_at_once_and_imports_nothing_heavy(tmp_path):
    seconds = []
    while len(seconds) < 5 and min(seconds, default=9) >= 1.5:  # the best of a few: the machine may be busy
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True, cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.5
    assert done.stderr.strip() == "[]"
    assert all(verb in done.stdout for verb in VERBS)


def test_no_verb_loads_torch_before_it_is_run(tmp_path):
    code = "import sys; from importlib import import_module; [import_module(name) for name in sys.argv[1:]]; "
    code += "print(sorted({'torch', 'pytorch_lightning', 'sklearn'} & set(sys.modules)))"
    modules = [verb.module for verb in VERBS.values()]
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[]\n", done.stderr


def test_version_is_data(capsys):
    assert typed(["--version"], capsys) == (0, f"recsys {__version__}\n", "")


@pytest.mark.parametrize("words", [["trane"], ["report", "--colour"], ["--colour"]])
def test_a_word_it_does_not_know_exits_2_and_names_it(words, capsys):
    code, out, err = typed(words, capsys)
    assert (code, out) == (2, "")
    assert words[-1] in err


def test_a_verb_that_is_not_loaded_cannot_be_run_by_mistake():
    with pytest.raises(RuntimeError, match="loaded"):
        build_app(None)(["train"])


INTERRUPTED = """
import recsys.cli
def interrupt(asked):
    raise KeyboardInterrupt
recsys.cli.build_app = interrupt
recsys.cli.main()
"""


def test_an_interruption_while_a_verb_is_loaded_is_one_line(tmp_path):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: interrupted\n")
