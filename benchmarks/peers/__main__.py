"""``python -m benchmarks.peers export DATA FOLDER`` and ``python -m benchmarks.peers score FOLDER``."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.peers.export import DATASETS, config_of, export_split
from benchmarks.peers.score import write_scores
from recsys.console import SetOption, run, talk
from recsys.data.purchases import open_purchases

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="DATA", help=f"One of {', '.join(DATASETS)}.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    data: Annotated[Path | None, typer.Option(help="Prepared data; data/processed/<DATA> by default.")] = None,
    settings: SetOption = None,
) -> None:
    """Write the split of prepared data for the peers."""
    config = config_of(name, settings or [])
    export_split(name, open_purchases(data or config.data.folder, DATASETS[name].prepare), config, folder)
    talk.print(f"wrote {folder}; next: .venv-peers/bin/python benchmarks/peers/run.py {folder}", markup=False)


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="Folder that export wrote and run.py put lists into.")],
    results: Annotated[Path | None, typer.Option(help="File of results; benchmarks/RESULTS.md by default.")] = None,
) -> None:
    """Score the peers' lists beside our rules and write the section of the results."""
    talk.print(write_scores(folder, results), markup=False)


if __name__ == "__main__":
    run(app)
