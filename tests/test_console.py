import pytest
import typer

from recsys.console import progress, run, talk
from recsys.errors import DataError, UsageError

app = typer.Typer()


@app.command()
def fail(kind: str) -> None:
    print("a line of data")
    raise {"data": DataError, "usage": UsageError, "bug": ZeroDivisionError}[kind](
        "price column [price] is missing; expected one of price, unit_price; rename it in the column map"
    )


@pytest.mark.parametrize(("kind", "code"), [("data", 1), ("usage", 2)])
def test_an_error_of_ours_is_one_line_on_stderr_and_an_exit_code(kind, code, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(app, [kind])
    out, err = capsys.readouterr()
    assert stopped.value.code == code
    assert out == "a line of data\n"
    assert err == (
        "error: price column [price] is missing; expected one of price, unit_price; rename it in the column map\n"
    )


@pytest.mark.parametrize("arguments", [["data", "--verbose"], ["--verbose", "data"]])
def test_verbose_shows_the_traceback_wherever_it_stands(arguments, capsys):
    with pytest.raises(SystemExit):
        run(app, arguments)
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.rstrip().splitlines()[-1].startswith("error: price column")


def test_a_bug_is_not_dressed_up_as_an_error_of_the_user():
    with pytest.raises(ZeroDivisionError):
        run(app, ["bug"])


def test_progress_is_talk_and_leaves_stdout_to_data(capsys):
    with progress() as bar:
        bar.advance(bar.add_task("counting", total=1))
    assert capsys.readouterr().out == ""
    assert talk.stderr
