"""Where the files of a run's maps lie, what the vectors of a map are of, and the maps as its report shows them."""

import base64
from pathlib import Path
from typing import Final, NamedTuple

from recsys.errors import DataError
from recsys.reports.charts import FIGURES_DIR
from recsys.runs import Embeddings, Run
from recsys.storage import read_json

QUALITY_FILE = "map-quality.json"
#: Items of the small picture, as many as the original drew.
N_FEW = 100
TITLES: Final[dict[Embeddings, str]] = {"text": "the text transformer", "bert": "a frozen BERT", "items": "the decoder"}
#: How good the vectors and the map of each name are, by measure.
Quality = dict[str, dict[str, float]]


class MapFiles(NamedTuple):
    """The files of one map."""

    points: Path
    page: Path
    whole: Path
    few: Path


def map_files(run: Run, embeddings: Embeddings) -> MapFiles:
    """Return where the files of the map of a run's ``embeddings`` lie."""
    points, page = (run.report_folder / f"map-{embeddings}.{ending}" for ending in ("parquet", "html"))
    whole, few = (FIGURES_DIR / f"{run.name}-map-{embeddings}{end}.png" for end in ("", f"-{N_FEW}"))
    return MapFiles(points, page, whole, few)


class ItemMap(NamedTuple):
    """One map: what its vectors are of, its pictures as data addresses, and the page to explore it on."""

    title: str
    whole: str
    few: str | None
    page: str


class Maps(NamedTuple):
    """All maps of a run, the names of what was measured, and the values of each measure, one a name."""

    maps: list[ItemMap]
    vectors: list[str]
    measures: list[tuple[str, list[str]]]


def load_maps(run: Run, shown_by: Run | None = None) -> Maps | None:
    """Return the maps that ``recsys plots map`` drew of a run, addressed from the report of ``shown_by``, if any."""
    maps = []
    for embeddings, title in TITLES.items():
        files = map_files(run, embeddings)
        if files.whole.is_file():
            few = _address(files.few) if files.few.is_file() else None
            page = files.page.name if shown_by is None else f"../{run.name}/{files.page.name}"
            maps.append(ItemMap(title, _address(files.whole), few, page))
    path = run.report_folder / QUALITY_FILE
    quality: Quality = read_json(path)["rows"] if path.is_file() else {}
    measures = [(name.replace("_", " "), values) for name, values in measured(quality, missing="–")]
    return Maps(maps, list(quality), measures) if maps else None


def measured(quality: Quality, missing: str) -> list[tuple[str, list[str]]]:
    """Return every measure with its values, one a name of ``quality``."""
    names = dict.fromkeys(name for row in quality.values() for name in row if name != "n_items")
    values = {name: [f"{row[name]:.3f}" if name in row else missing for row in quality.values()] for name in names}
    return [(name.replace("_name", ""), texts) for name, texts in values.items()]


def _address(path: Path) -> str:
    picture = path.read_bytes()
    if not picture.startswith(b"\x89PNG\r\n\x1a\n"):
        raise DataError(f"{path} is no PNG picture; draw the map again with `recsys plots map --force`")
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
