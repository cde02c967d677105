"""Turn raw purchases into sequences; download or synthesize raw data."""

import time
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import typer
from rich.table import Table

from recsys.config import MODELS_DIR, RAW_DIR, REPORTS_DIR, DataConfig, load_config
from recsys.console import ConfigOption, ForceOption, SetOption, SparkOption, counted, run, talk
from recsys.data.download import download_hm
from recsys.data.forget import fingerprints_of, forget_in_folder, forget_in_table
from recsys.data.ids import read_ids
from recsys.data.prepare import prepare
from recsys.data.purchases import is_prepared, open_purchases
from recsys.data.refusals import BAD_PROMOTION
from recsys.data.sources import all_sources
from recsys.data.synthetic.write import synthesize as write_synthetic
from recsys.errors import RunError, UsageError
from recsys.evaluation.splits import HELD_OUT_SEED, n_held_out, with_split_rules
from recsys.runs import HISTORIES_FOLDER, INFO_FILE
from recsys.schema import USER_ID
from recsys.settings import CONFIGS_DIR
from recsys.storage import read_json, remove

#: Pages and exports in a report folder that may show users.
_SHOWING_USERS = ("index.html", "generated.html", "*.csv", "*.xlsx")

app = typer.Typer(help="Turn raw purchases into sequences, texts into vectors.", no_args_is_help=True)


@app.command()
def main(
    config: ConfigOption = None,
    settings: SetOption = None,
    source: Annotated[str | None, typer.Option(help=f"Of the raw data: {', '.join(all_sources())}.")] = None,
    raw: Annotated[Path | None, typer.Option(help="Folder (or file) of the raw data.")] = None,
    engine: Annotated[Literal["polars", "duckdb", "spark"] | None, typer.Option(help="Data engine.")] = None,
    spark: SparkOption = None,
    start: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="First day kept.")] = None,
    end: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="First day no longer kept.")] = None,
    top_k_items: Annotated[
        int | None, typer.Option("--top-k-items", "--top-k-articles", help="Keep the most sold items.")
    ] = None,
    split: Annotated[
        bool,
        typer.Option(
            "--split",
            help="Prepare for held-out customers: H&M's 1,000 most sold articles and histories of 2 to 10 purchases, "
            "unless the configuration says otherwise.",
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Make every finding of the validation an error.")] = False,
    force: ForceOption = False,
) -> None:
    """Turn raw purchases into sequences under data/processed/."""
    request = {"source": source, "raw": raw, "engine": engine, "start": start, "end": end, "top_k_items": top_k_items}
    overrides = [f"data.{key}={value}" for key, value in request.items() if value is not None]
    overrides += ["data.strict=true"] if strict else []
    data = load_config(config, [*(settings or []), *overrides]).data
    data = with_split_rules(data) if split else data
    began = time.perf_counter()
    manifest = prepare(data, force=force, spark=spark)
    _show(manifest, data)
    talk.print(f"wrote {data.folder}/ in {time.perf_counter() - began:.1f} s (details in report.json)")
    # The options by which another command reads the same data, whatever the command line said beside --config.
    if config is None and not split:
        words, usual = f"--set data.source={data.source}", DataConfig(source=data.source)
    else:
        words = f"--config {config or CONFIGS_DIR / 'original_id.yaml'}"
        usual = load_config(config).data if config else with_split_rules(DataConfig())
    words += f" --set data.name={data.folder.name}" if data.folder != usual.folder else ""
    talk.print(f"next: recsys train {words}")


def _show(manifest: dict[str, Any], data: DataConfig) -> None:
    """Print what was read, dropped and found."""
    report = manifest["report"]
    found = report["found"] | {"exact_duplicates": report["exact_duplicates"]}
    bad_promotions = found.pop(BAD_PROMOTION, 0)
    rows = {"rows read": report["rows_read"]}
    dropped, stated, n_users = report["dropped"], manifest["stated_rules"], manifest["n_users"]
    rows |= {f"  dropped: {rule}": count for rule, count in dropped.items() if count or rule in stated}
    before = report["before_history_limits"]
    if before:
        least, most = data.min_history or 1, data.max_history
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        rows |= {"purchases of the items kept": before["events"], "users who made them": before["users"]}
        held_out = n_held_out(n_users)
        learned = {f"  of whom, by seed {HELD_OUT_SEED}, to learn from": n_users - held_out, "  held out": held_out}
        rows |= {f"users with {limits} of them": n_users, **learned}
    rows["events kept"] = manifest["n_events"]
    rows |= {f"  of which, or mended: {finding}": count for finding, count in found.items() if count}
    rows |= {"users": n_users, "items": manifest["n_items"]}
    if "promotions" in manifest["hashes"]:
        rows["promotions"] = manifest["n_promotions"]
        rows |= {f"  dropped: {BAD_PROMOTION}": bad_promotions} if bad_promotions else {}
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, count in rows.items():
        table.add_row(name, f"{count:,}")
    table.add_row("days", f"{manifest['first_day']} … {manifest['last_day']}")
    talk.print(table)
    for note in manifest["notes"]:
        talk.print(f"read as: {note}", markup=False)
    for finding, count in found.items():
        if count and "leading_zero" in finding:
            warning = f"warning: {count:,} ids had lost their leading zero and got it back ({finding})"
            talk.print(warning, style="yellow")


@app.command()
def embeddings(
    config: ConfigOption = None,
    settings: SetOption = None,
    encoder: Annotated[str | None, typer.Option(help="A BERT: folder, name on the hub, or packaged-minilm.")] = None,
    force: ForceOption = False,
) -> None:
    """Turn the texts of prepared items into vectors of a BERT, continuing where it was interrupted.

    Without a word about the data they are those of `dataset main --split`.
    """
    overrides = [] if encoder is None else [f"text.encoder={encoder}"]
    resolved = load_config(config, [*(settings or []), *overrides])
    if not resolved.data.model_fields_set:
        resolved = resolved.model_copy(update={"data": with_split_rules(resolved.data)})
    texts = import_module("recsys.modeling.original.embeddings")  # loads torch
    first: list[int] = []
    with counted("texts") as show:

        def advance(done: int, total: int) -> None:
            if done and not first:
                talk.print(f"continuing an interrupted run: {done:,} of {total:,} texts are done")
            first.append(done)
            show(done, total)

        manifest = texts.write_embeddings(resolved, force=force, advance=advance)
    counts = f"{manifest['n_items']:,} items have {manifest['n_texts']:,} distinct texts"
    talk.print(f"{counts}; {manifest['encoder']} is {manifest['dim']} wide")
    speed = f" ({manifest['texts_per_second']:,} texts a second)" if manifest["texts_per_second"] else ""
    talk.print(f"wrote {texts.embeddings_folder(resolved)}/{speed}")


@app.command()
def download(
    source: Annotated[Literal["hm"], typer.Argument(help="What to fetch.")] = "hm",
    folder: Annotated[Path, typer.Option("--out", help="Folder that receives the files.")] = RAW_DIR / "hm",
    force: ForceOption = False,
) -> None:
    """Fetch the three tables of the H&M competition from Kaggle (its rules must be accepted there first)."""
    download_hm(folder, force=force)


@app.command()
def synthesize(
    folder: Annotated[Path, typer.Option("--out", help="Folder that receives the files.")] = RAW_DIR / "synthetic",
    customers: Annotated[int, typer.Option(min=1, help="Number of customers.")] = 1_000,
    articles: Annotated[int | None, typer.Option(min=1, help="Number of articles; else by --customers.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files.")] = 42,
    end: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Last day.", show_default="2020-09-22"),
    ] = datetime(2020, 9, 22),
    days: Annotated[int, typer.Option(min=1, help="Number of days.")] = 734,
    force: ForceOption = False,
) -> None:
    """Make up purchases in the H&M form at any size, with life cycles, repeats and baskets."""
    write_synthetic(
        folder, n_customers=customers, n_articles=articles, seed=seed, end=end.date(), n_days=days, force=force
    )


@app.command()
def forget(
    processed: Annotated[Path, typer.Option(help="Prepared folder, such as data/processed/shop.")],
    user: Annotated[list[str] | None, typer.Option("--user", metavar="ID", help="A user; may be repeated.")] = None,
    users: Annotated[Path | None, typer.Option(help="File of ids, one a line, or Parquet with user_id.")] = None,
    run_names: Annotated[
        list[str] | None, typer.Option("--run", help="Besides those trained on these data: a run, or a saved model.")
    ] = None,
) -> None:
    """Remove users from prepared data, and from histories and lists of the runs that learned from them.

    Pages and exports in these runs' report folders are removed, for they can be made anew.
    """
    if not user and users is None:
        raise UsageError("nobody is named; expected --user ID, or --users FILE with an id a line")
    ids = pa.array([*(user or []), *(read_ids(users, USER_ID).to_pylist() if users else [])], pa.string()).unique()
    known = fingerprints_of(open_purchases(processed).manifest)
    folders = {path.parent for path in MODELS_DIR.glob(f"[!.]*/{INFO_FILE}") if _learned_from(path) in known}
    folders |= {_run_folder(name) for name in run_names or []}
    gone = forget_in_folder(processed, ids)
    talk.print(
        f"{processed}: removed {gone.n_users:,} of {len(ids):,} users, {gone.n_events:,} purchases", markup=False
    )
    if gone.n_days:
        talk.print(
            f"the data end {gone.n_days:,} days earlier, and so do test windows: train runs without split.end anew"
        )
    for folder in sorted(folders):
        _forget_in_run(folder, ids)
    talk.print("raw files still hold them, and weights what was learned from them: remove them there, and train anew")


def _learned_from(info: Path) -> str:
    found = read_json(info)
    return str(found.get("data_fingerprint")) if isinstance(found, dict) else ""


def _run_folder(name: str) -> Path:
    folder = next((path for path in (MODELS_DIR / name, Path(name)) if path.is_dir()), None)
    if folder is None:
        raise RunError(f"there is no folder {MODELS_DIR / name}; expected the name of a run, or a saved model's folder")
    return folder


def _forget_in_run(folder: Path, ids: pa.Array) -> None:
    """Remove users from what a run's folder and its report folder hold, and say what was changed."""
    histories, report = folder / HISTORIES_FOLDER, REPORTS_DIR / folder.name
    if is_prepared(histories):
        gone = forget_in_folder(histories, ids)
        talk.print(f"{histories}: removed {gone.n_users:,} users, {gone.n_events:,} purchases", markup=False)
    for left in [*report.rglob(".*.chunks"), *report.rglob(".*.part")]:  # by commands that were killed
        remove(left)
    tables = {path: forget_in_table(path, ids) for path in sorted(report.rglob("*.parquet")) if path.is_file()}
    if n_rows := sum(tables.values()):
        n_tables = sum(n > 0 for n in tables.values())
        talk.print(f"{report}: removed {n_rows:,} rows of {n_tables:,} tables", markup=False)
    for path in sorted(path for pattern in _SHOWING_USERS for path in report.rglob(pattern)):
        path.unlink()
        talk.print(f"{path}: removed, for it may show them; make it anew", markup=False)


if __name__ == "__main__":
    run(app)
