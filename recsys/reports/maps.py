"""Maps of the items that were drawn of a run, as its report shows them."""

import base64
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import DataError
from recsys.reports.charts import FIGURES_DIR
from recsys.reports.item_map.draw import QUALITY_FILE, TITLES, outputs_of
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
    found = []
    for kind, title in TITLES.items():
        outputs = outputs_of(run, kind, FIGURES_DIR)
        if outputs.whole.is_file():
            few = _address(outputs.few) if outputs.few.is_file() else None
            page = outputs.page.name if shown_by is None else f"../{run.name}/{outputs.page.name}"
            found.append(ItemMap(title, _address(outputs.whole), few, page))
    if not found:
        return None
    path = run.report_folder / QUALITY_FILE
    rows = read_json(path)["rows"] if path.is_file() else {}
    names = list(dict.fromkeys(name for row in rows.values() for name in row if name != "n_items"))
    measures = [(_words(name), [_value(row.get(name)) for row in rows.values()]) for name in names]
    return Maps(found, list(rows), measures)


def _address(path: Path) -> str:
    picture = path.read_bytes()
    if not picture.startswith(_PNG):
        raise DataError(f"{path} is no PNG picture; draw the map again with `recsys plots map --force`")
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def _words(name: str) -> str:
    return name.replace("_name", "").replace("_", " ")


def _value(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"
