"""Do everything on a shop's files: inspect, prepare, train, score, lists, report; one question in between."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from recsys.config import load_config
from recsys.console import ForceOption, run, talk
from recsys.data.reading.layout import FileForm
from recsys.errors import RecsysError, UsageError
from recsys.inspect import (
    EncodingOption,
    FilesArgument,
    QueryOption,
    SeparatorOption,
    SheetOption,
    TableOption,
    inspect_files,
)

app = typer.Typer(add_completion=False)


@app.command()
def main(
    files: FilesArgument,
    write: Annotated[Path, typer.Option("--write", help="Configuration that is written.")] = Path("shop.yaml"),
    yes: Annotated[bool, typer.Option("--yes", help="Go on without asking.")] = False,
    sheet: SheetOption = None,
    table: TableOption = None,
    query: QueryOption = None,
    separator: SeparatorOption = None,
    encoding: EncodingOption = None,
    force: ForceOption = False,
) -> None:
    """Do everything on a shop's files, or on the configuration (.yaml) that `recsys inspect` wrote for them."""
    if len(files) == 1 and files[0].endswith((".yaml", ".yml")):
        path = Path(files[0])
    else:
        path, form = write, FileForm(separator, encoding, sheet=sheet, table=table, query=query)
        if not inspect_files(files, form, path, force=force):
            raise UsageError(f"something is open; answer it in {path}, then: recsys run {path}")
    name = load_config(path).name
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"nobody can be asked here; look at {path}, then: recsys run {path} --yes")
        typer.confirm("go on: prepare, train, score, lists, report?", abort=True)
    again = ["--force"] if force else []
    for words in (
        ["dataset", "main", "--config", str(path), *again],
        ["train", "--config", str(path), *again],
        ["predict", "--folds", "--run", name, *again],
        ["evaluate", "--run", name, *again],
        ["predict", "--run", name, "--system", "chosen", "--out", f"{name}-lists.csv", *again],
        ["report", "--run", name, *again],
    ):
        talk.print(f"\nrecsys {' '.join(words)}", style="bold", markup=False)
        code = subprocess.run([sys.executable, "-m", "recsys.cli", *words], check=False).returncode
        if code:
            raise RecsysError(f"`recsys {' '.join(words)}` ended with code {code}; what stands above says why")


if __name__ == "__main__":
    run(app)
