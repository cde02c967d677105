"""Make the files of a map: points, pictures, page, and the table that says how good it is beside others."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys.console import talk
from recsys.data.purchases import Purchases
from recsys.errors import RecsysError, RunError
from recsys.reports import figures
from recsys.reports.item_map import attributes
from recsys.reports.item_map.attributes import Attribute
from recsys.reports.item_map.layout import (
    Layout,
    compute_layout,
    fingerprint,
    plane,
    read_layout,
    unit_vectors,
    write_layout,
)
from recsys.reports.item_map.neighbourhoods import measures
from recsys.reports.item_map.page import render
from recsys.reports.item_map.picture import picture
from recsys.runs import Run, find_run
from recsys.storage import read_json, replacing, require_absent, write_json, write_text

if TYPE_CHECKING:
    from recsys.modeling.item_vectors import Embeddings

QUALITY_FILE = "map-quality.json"
#: Items of the small picture, as many as the original drew.
N_FEW = 100
#: Items whose neighbours are looked at on the whole map.
_N_ASKED = 1_000
#: What the vectors of each kind are of.
TITLES = {"text": "the text transformer", "bert": "a frozen BERT", "items": "the decoder"}


@dataclass(frozen=True)
class Outputs:
    """Where the files of one map lie."""

    points: Path
    page: Path
    whole: Path
    few: Path


@dataclass(frozen=True)
class Known:
    """What is known of the items beside their vectors."""

    legend: Attribute
    judged: list[Attribute]
    names: list[str]
    item_ids: pa.Array


def draw_map(
    found: Run,
    kind: "Embeddings",
    figures_folder: Path,
    *,
    colour_by: str | None = None,
    beside: Sequence[str] = (),
    n_compared: int = 5_000,
    force: bool = False,
) -> tuple[Outputs, Path]:
    """Write points, pictures and page of the map of ``kind``, and the table of quality; return where they lie.

    Points of the same vectors are not computed anew. The table keeps the rows of earlier maps of the run.

    Args:
        found: the run whose vectors are drawn.
        kind: which of them.
        figures_folder: where pictures go.
        colour_by: column of the legend; a fitting one by default.
        beside: names of other runs, whose vectors are compared in the table too.
        n_compared: items, drawn at random, on which the table compares.
        force: replace what is there.
    """
    from recsys.modeling.item_vectors import item_vectors

    outputs = outputs_of(found, kind, figures_folder)
    for path in (outputs.page, outputs.whole, outputs.few):
        require_absent(path, force=force)
    data = found.open_data()
    judged = attributes.judged(data.items)
    legend = attributes.coloured(data.items, colour_by, judged)
    known = Known(legend, judged, attributes.names(data.items), data.item_ids)
    vectors = item_vectors(kind, found, data)
    points = unit_vectors(vectors)
    layout = _layout(outputs.points, points, known, found.config.seed)
    _write_pictures(outputs, points, layout, known, kind, found)
    some = np.sort(np.random.default_rng(found.config.seed).permutation(len(points))[:n_compared])
    compared = {kind: vectors[some]} | _others(kind, found, data, beside, some)
    path = _write_quality(found, kind, compared, layout, points, known, some)
    return outputs, path


def outputs_of(found: Run, kind: str, figures_folder: Path) -> Outputs:
    """Return where the files of the map of ``kind`` lie."""
    start = f"{found.name}-map-{kind}"
    return Outputs(
        found.report_folder / f"map-{kind}.parquet",
        found.report_folder / f"map-{kind}.html",
        figures_folder / f"{start}.png",
        figures_folder / f"{start}-{N_FEW}.png",
    )


def _layout(path: Path, points: np.ndarray, known: Known, seed: int) -> Layout:
    mark = fingerprint(points, seed)
    layout = read_layout(path, mark)
    if layout is None:
        layout = compute_layout(points, seed)
        write_layout(path, layout, known.item_ids, mark)
    return layout


def _write_pictures(outputs: Outputs, points: np.ndarray, layout: Layout, known: Known, kind: str, found: Run) -> None:
    by = f"vectors of {TITLES[kind]} (run {found.name})"
    few = np.sort(np.random.default_rng(found.config.seed).permutation(len(points))[:N_FEW])
    legend, words = (replace(one, code=one.code[few]) for one in (known.legend, known.judged[0]))
    plane_of_few = plane(points[few], found.config.seed, f"map of {len(few)}")
    drawn = {
        outputs.whole: picture(layout.plane, known.legend, known.judged[0], f"{len(points):,} items, {by}"),
        outputs.few: picture(plane_of_few, legend, words, f"{len(few)} items, {by}"),
    }
    for path, figure in drawn.items():
        with replacing(path) as aside:
            figures.save(figure, aside, "png")
    note = (
        "Each point is an item; near ones are alike by these vectors. Distances between groups, and their sizes, mean "
        "nothing (t-SNE). Point at an item to read what it is; a click in the legend hides a group."
    )
    title = f"{len(points):,} items by {by}"
    write_text(outputs.page, render(layout, known.names, known.legend, known.judged, title=title, note=note))


def _others(kind: str, found: Run, data: Purchases, beside: Sequence[str], some: np.ndarray) -> dict[str, np.ndarray]:
    """Return what to compare with, for the items ``some``: other runs, BERT where there is one, untrained, random."""
    from recsys.modeling.item_vectors import item_vectors, untrained_text_vectors

    result: dict[str, np.ndarray] = {}
    for name in beside:
        run = find_run(name)
        run_kind: Embeddings = "items" if run.config.text_model.objective is None else "text"
        result[f"{run_kind} of {run.name}"] = item_vectors(run_kind, run, _same_items(run, data), some)
    makers: dict[str, Callable[[], np.ndarray]] = {
        "bert": lambda: item_vectors("bert", found, data, some),
        "untrained": lambda: untrained_text_vectors(found.config, data, some),
    }
    for name, make in makers.items():
        if name == kind:
            continue
        try:
            result[name] = make()
        except RecsysError as error:
            talk.print(f"not compared: {name}: {error}", markup=False)
    random = np.random.default_rng(found.config.seed)
    return result | {"random": random.standard_normal((len(some), 64), dtype=np.float32)}


def _same_items(run: Run, data: Purchases) -> Purchases:
    """Return the data of ``run``, whose items must be those of ``data``: other items cannot be compared."""
    own = run.open_data()
    if not own.item_ids.equals(data.item_ids):
        raise RunError(
            f"{run.folder} learned from {own.n_items:,} items of {own.folder}, which are not the {data.n_items:,} of "
            f"{data.folder}; compare runs over the same items"
        )
    return own


def _write_quality(
    found: Run,
    kind: str,
    compared: dict[str, np.ndarray],
    layout: Layout,
    points: np.ndarray,
    known: Known,
    some: np.ndarray,
) -> Path:
    seed, path = found.config.seed, found.report_folder / QUALITY_FILE
    of_some = {one.name: one.code[some] for one in known.judged}
    rows: dict[str, dict[str, float]] = {}
    for name, vectors in compared.items():
        sample = unit_vectors(vectors)
        drawn = name == kind and len(some) == len(points)  # of the very same vectors
        on_map = layout.plane if drawn else plane(sample, seed, f"compare {name}")
        rows[name] = {"n_items": len(some)} | measures(sample, on_map, of_some, n_asked=_N_ASKED, seed=seed)
    if len(some) < len(points):
        of_all = {one.name: one.code for one in known.judged}
        whole = measures(points, layout.plane, of_all, n_asked=_N_ASKED, seed=seed)
        rows[f"{kind}, all items"] = {"n_items": len(points)} | whole
    about = {"data": str(found.info["data_fingerprint"]), "n_compared": len(some), "n_asked": _N_ASKED, "seed": seed}
    before = read_json(path) if path.is_file() else {}
    if {name: before.get(name) for name in about} == about:
        rows = before["rows"] | rows
    write_json(path, about | {"rows": rows})
    _write_table(path.with_suffix(".csv"), rows)
    return path


def _write_table(path: Path, rows: dict[str, dict[str, float]]) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    with replacing(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["embeddings", *columns])
        writer.writerows([name, *(row.get(column, "") for column in columns)] for name, row in rows.items())
