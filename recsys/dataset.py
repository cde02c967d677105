"""Turn raw purchases into sequences; download or synthesize raw data."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from recsys.config import RAW_DIR
from recsys.console import ForceOption, run

app = typer.Typer(help="Turn raw purchases into sequences; download or synthesize raw data.", no_args_is_help=True)


@app.command()
def download(
    folder: Annotated[Path, typer.Option("--out", help="Folder that receives the files.")] = RAW_DIR / "hm",
    force: ForceOption = False,
) -> None:
    """Fetch the three tables of the H&M competition from Kaggle (its rules must be accepted there first)."""
    from recsys.sources.download import download_hm

    download_hm(folder, force=force)


@app.command()
def synthesize(
    folder: Annotated[Path, typer.Option("--out", help="Folder that receives the files.")] = RAW_DIR / "synthetic",
    customers: Annotated[int, typer.Option("--customers", min=1, help="Number of customers.")] = 1_000,
    articles: Annotated[int, typer.Option("--articles", min=1, help="Number of articles.")] = 2_000,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds give equal files.")] = 42,
    end: Annotated[str, typer.Option("--end", help="Day after the last one, YYYY-MM-DD.")] = "2020-09-23",
    days: Annotated[int, typer.Option("--days", min=1, help="Number of days.")] = 734,
    force: ForceOption = False,
) -> None:
    """Make up purchases in the H&M form at any size, with life cycles, repeats and baskets."""
    from recsys.sources.synthetic import synthesize as write

    last = date.fromisoformat(end)
    write(folder, n_customers=customers, n_articles=articles, seed=seed, end=last, n_days=days, force=force)


if __name__ == "__main__":
    run(app)
