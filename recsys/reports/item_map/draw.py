"""Make the files of a map: points, pictures, page, and the table that says how good it is beside others."""

import base64
import html
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from recsys.data.item_names import Labels
from recsys.data.purchases import Purchases
from recsys.errors import RecsysError, RunError
from recsys.reports import figures
from recsys.reports.item_map import attributes
from recsys.reports.item_map.attributes import Attribute
from recsys.reports.item_map.files import N_FEW, QUALITY_FILE, TITLES, MapFiles, Quality, map_files
from recsys.reports.item_map.layout import Advance, Layout, kept_layout, plane, unit_vectors
from recsys.reports.item_map.neighbourhoods import measures
from recsys.reports.item_map.picture import COLOURS, N_CATEGORIES, picture
from recsys.reports.shell import fill
from recsys.runs import Embeddings, Run, Vectors
from recsys.storage import read_json, require_absent, write_json, write_text

#: Items whose neighbours are looked at on the whole map.
_N_QUERIED = 1_000


#: Returns vectors (R, D) float32 of a run by their name, its data, and the items ``rows`` + 1 (R,), else of all.
#: Who draws a map hands it over, so that nothing here knows a model.
GetVectors = Callable[[Vectors, Run, Purchases, np.ndarray | None], np.ndarray]


def draw_map(
    run: Run,
    embeddings: Embeddings,
    vectors: GetVectors,
    *,
    colour_by: str | None = None,
    beside: Sequence[Run] = (),
    n_compared: int = 5_000,
    force: bool = False,
    advance: Advance = lambda *_: None,
) -> tuple[MapFiles, dict[str, str]]:
    """Write points, pictures and page of the map of ``embeddings``, and the table of quality.

    Returned is where they lie, and why vectors, by their name, could not be compared.

    The legend is of the column ``colour_by``, by default of a fitting one. The table compares, on ``n_compared`` items
    drawn at random, with the vectors of the runs ``beside`` too, and keeps the rows of earlier maps of the run. Points
    of the same vectors are not computed anew; ``advance`` is called as points are. RunError: a run has no such vectors
    or other items; DataError: vectors are missing, or too few; UsageError: no fitting column, or no extra ``text``.
    """
    files, seed = map_files(run, embeddings), run.config.seed
    for path in (files.page, files.whole, files.few):
        require_absent(path, force=force)
    data = run.open_data()
    judged = attributes.judged(data.items)
    legend = attributes.coloured(data.items, colour_by, judged)
    drawn = vectors(embeddings, run, data, None)
    points = unit_vectors(drawn)
    layout = kept_layout(files.points, points, data.item_ids, seed, advance)
    order = np.random.default_rng(seed).permutation(len(points))
    few, some = np.sort(order[:N_FEW]), np.sort(order[:n_compared])
    plane_of_few = plane(points[few], seed, f"map of {len(few)}", advance)
    legend_of_few, words_of_few = (one._replace(code=one.code[few]) for one in (legend, judged[0]))
    by = f"vectors of {TITLES[embeddings]} (run {run.name})"
    figures.save(picture(layout.plane, legend, judged[0], f"{len(points):,} items, {by}"), files.whole, "png")
    figures.save(picture(plane_of_few, legend_of_few, words_of_few, f"{len(few)} items, {by}"), files.few, "png")
    title = f"{len(points):,} items by {by}"
    labels = Labels(data.items)
    names = [labels.product(index).label for index in range(1, data.n_items + 1)]
    write_text(files.page, render(layout, names, legend, judged, title=title))

    others, not_compared = _others(embeddings, run, data, beside, some, vectors)
    of_all = {one.name: one.code for one in judged}
    of_some = {name: code[some] for name, code in of_all.items()}
    measured = partial(measures, n_queried=_N_QUERIED, seed=seed)
    rows: Quality = {}
    for name, compared in ({embeddings: drawn[some]} | others).items():
        sample = unit_vectors(compared)
        is_drawn = name == embeddings and len(some) == len(points)  # the very same vectors
        on_map = layout.plane if is_drawn else plane(sample, seed, f"compare {name}", advance)
        rows[name] = {"n_items": len(some)} | measured(sample, on_map, of_some)
    if len(some) < len(points):
        rows[f"{embeddings}, all items"] = {"n_items": len(points)} | measured(points, layout.plane, of_all)
    _write_quality(run, rows, len(some))
    return files, not_compared


def render(layout: Layout, names: Sequence[str], legend: Attribute, others: Sequence[Attribute], *, title: str) -> str:
    """Return the page for exploring, which needs no network; WebGL keeps 100,000 points smooth."""
    all_attributes = {one.name: one for one in (legend, *others)}
    distinct, code = np.unique(np.array(names), return_inverse=True)
    data = {
        "points": {name: _packed(column, "<f4") for name, column in layout.columns().items()},
        "names": _column(distinct.tolist(), code),
        "attributes": [{"name": one.title} | _column(one.values, one.code) for one in all_attributes.values()],
        "colours": COLOURS,
        "largest": N_CATEGORIES,
    }
    return fill("map.html.j2", title=title, data=data, plotly=get_plotlyjs(), n_items=len(names))


def _column(values: Sequence[str], code: np.ndarray) -> dict[str, Any]:
    """Return distinct texts once, and the place of each item's among them; Plotly reads tags in what it shows."""
    return {"values": [html.escape(value) for value in values], "code": _packed(code, "<i4")}


def _packed(column: np.ndarray, dtype: str) -> str:
    return base64.b64encode(column.astype(dtype).tobytes()).decode()


def _others(
    embeddings: Embeddings, run: Run, data: Purchases, beside: Sequence[Run], some: np.ndarray, vectors: GetVectors
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the vectors to compare with, by name, of the items ``some``, and why other names have none."""
    result: dict[str, np.ndarray] = {}
    for other in beside:
        own: Embeddings = "items" if other.config.text_model.objective is None else "text"
        theirs = other.open_data()
        if not theirs.item_ids.equals(data.item_ids):
            raise RunError(
                f"{other.folder} learned from {theirs.n_items:,} items of {theirs.folder}, which are not the "
                f"{data.n_items:,} of {data.folder}; compare runs over the same items"
            )
        result[f"{own} of {other.name}"] = vectors(own, other, theirs, some)
    not_compared: dict[str, str] = {}
    names: tuple[Vectors, ...] = ("bert", "untrained")
    for name in names:
        try:
            if name != embeddings:
                result[name] = vectors(name, run, data, some)
        except RecsysError as error:
            not_compared[name] = str(error)
    random = np.random.default_rng(run.config.seed)
    return result | {"random": random.standard_normal((len(some), 64), dtype=np.float32)}, not_compared


def _write_quality(run: Run, rows: Quality, n_compared: int) -> None:
    """Write ``rows``, and those of earlier maps that were measured alike."""
    path = run.report_folder / QUALITY_FILE
    fingerprint, seed = str(run.info["data_fingerprint"]), run.config.seed
    about = {"data": fingerprint, "n_compared": n_compared, "n_asked": _N_QUERIED, "seed": seed}
    before = read_json(path) if path.is_file() else {}
    if {name: before.get(name) for name in about} == about:
        rows = before["rows"] | rows
    write_json(path, about | {"rows": rows})
