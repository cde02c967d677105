"""Maps of the items that were drawn of a run, as its report shows them."""

import base64
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import DataError
from recsys.reports.charts import FIGURES_DIR
from recsys.reports.item_map.files import QUALITY_FILE, TITLES, map_files
from recsys.runs import Run
from recsys.storage import read_json

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class ItemMap:
    """One map: what its vectors are of, its pictures as data addresses, and the page to explore it on."""

    title: str
    whole: str
    few: str | None
    page: str


@dataclass(frozen=True)
class Maps:
    """All maps of a run, and how well like items stand together on each: names of the vectors, rows of measures."""

    maps: list[ItemMap]
    vectors: list[str]
    measures: list[tuple[str, list[str]]]


def load_maps(run: Run, shown_by: Run | None = None) -> Maps | None:
    """Return the maps that ``recsys plots map`` drew of a run; None where there are none.

    Pages to explore are addressed from the report of the run itself, or of the run ``shown_by``.

    Raises:
        DataError: a picture is no PNG.
    """
    maps = []
    for embeddings, title in TITLES.items():
        files = map_files(run, embeddings, FIGURES_DIR)
        if files.whole.is_file():
            few = _address(files.few) if files.few.is_file() else None
            page = files.page.name if shown_by is None else f"../{run.name}/{files.page.name}"
            maps.append(ItemMap(title, _address(files.whole), few, page))
    if not maps:
        return None
    path = run.report_folder / QUALITY_FILE
    rows = read_json(path)["rows"] if path.is_file() else {}
    measures = []
    for name in dict.fromkeys(name for row in rows.values() for name in row if name != "n_items"):
        values = [f"{row[name]:.3f}" if name in row else "–" for row in rows.values()]
        measures.append((name.replace("_name", "").replace("_", " "), values))
    return Maps(maps, list(rows), measures)


def _address(path: Path) -> str:
    picture = path.read_bytes()
    if not picture.startswith(_PNG):
        raise DataError(f"{path} is no PNG picture; draw the map again with `recsys plots map --force`")
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
