"""Write figures of a run to ``reports/figures``: ``recsys plots curves``, ``metrics`` and ``map``."""

from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Annotated, Literal

import typer
from matplotlib.figure import Figure
from rich.progress import TaskID
from rich.table import Table as RichTable

from recsys.console import ForceOption, RunOption, progress, run, talk
from recsys.evaluation.results import METRICS_FILE, load_scores
from recsys.reports import figures
from recsys.reports.charts import FIGURES_DIR, curves_figure, read_log, systems_figure
from recsys.reports.item_map.files import QUALITY_FILE, Quality, measured
from recsys.runs import LOG_FILE, Embeddings, find_run
from recsys.storage import read_json, require_absent

app = typer.Typer(no_args_is_help=True)

ImageFormat = Literal["png", "svg"]
ImageOption = Annotated[ImageFormat, typer.Option("--image", help="Kind of image: png or svg.")]


@app.command()
def curves(run_name: RunOption = None, image: ImageOption = "png", force: ForceOption = False) -> None:
    """Draw the loss and validation curves of a run into reports/figures."""
    found = find_run(run_name)
    _write(f"{found.name}-curves", curves_figure(read_log(found.folder / LOG_FILE)), image, force=force)


@app.command()
def metrics(run_name: RunOption = None, image: ImageOption = "png", force: ForceOption = False) -> None:
    """Draw the main metric of every system of a run, with intervals, into reports/figures."""
    found = find_run(run_name)
    scores = load_scores(found.report_folder / METRICS_FILE, found.name)
    _write(f"{found.name}-metrics", systems_figure(scores), image, force=force)


@app.command(name="map")
def item_map(
    run_name: RunOption = None,
    embeddings: Annotated[
        Embeddings,
        typer.Option(help="Of the text transformer, a BERT, or the decoder."),
    ] = "text",
    colour_by: Annotated[str | None, typer.Option(help="Items column for the legend; else a fitting one.")] = None,
    encoder: Annotated[str | None, typer.Option(help="The BERT whose vectors are meant; the run's by default.")] = None,
    beside: Annotated[list[str] | None, typer.Option(metavar="RUN", help="Compare with its vectors too.")] = None,
    n_compared: Annotated[
        int, typer.Option("--compare-on", min=50, help="Random items on which vectors are compared.")
    ] = 5_000,
    force: ForceOption = False,
) -> None:
    """Draw the map on which like items stand together, for print and for exploring, and say how good it is."""
    # Both load what a curve needs not: torch, and scikit-learn.
    models, maps = import_module("recsys.modeling.item_vectors"), import_module("recsys.reports.item_map.draw")
    found = find_run(run_name)
    if encoder is not None:
        text = found.config.text.model_copy(update={"encoder": encoder, "embeddings": None})
        found = replace(found, config=found.config.model_copy(update={"text": text}))
    with progress() as bar:
        tasks: dict[str, TaskID] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        vectors = partial(models.item_vectors, advance=partial(advance, "texts"))
        options = {"colour_by": colour_by, "n_compared": n_compared, "force": force, "advance": advance}
        others = [find_run(name) for name in beside or ()]
        files, not_compared = maps.draw_map(found, embeddings, vectors, beside=others, **options)
    for name, reason in not_compared.items():
        talk.print(f"not compared: {name}: {reason}", markup=False)
    talk.print("Map written:")
    quality = found.report_folder / QUALITY_FILE
    for path in (files.whole, files.few, files.page, quality):
        typer.echo(path)
    talk.print(quality_table(read_json(quality)["rows"]))


def quality_table(rows: Quality) -> RichTable:
    """Return the measures of a map's ``rows`` (vectors → measure → value), a line a measure, as a table to print."""
    table = RichTable(title="Share of like items among the 10 nearest, and other measures")
    table.add_column("measure", no_wrap=True)  # many vectors make a wide table: their names give way, in lines
    for name in rows:
        table.add_column(name, justify="right", overflow="fold")
    for name, values in measured(rows, missing=""):
        table.add_row(name, *values)
    return table


def _write(name: str, figure: Figure, image: ImageFormat, *, force: bool) -> None:
    path = FIGURES_DIR / f"{name}.{image}"
    require_absent(path, force=force)
    figures.save(figure, path, image)
    talk.print("Figure written:")
    typer.echo(path)


if __name__ == "__main__":
    run(app)
