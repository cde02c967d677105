"""Where the files of a run's maps lie, and what the vectors of a map are of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recsys.runs import Embeddings, Run

QUALITY_FILE = "map-quality.json"
#: Items of the small picture, as many as the original drew.
N_FEW = 100
TITLES: Final[dict[Embeddings, str]] = {"text": "the text transformer", "bert": "a frozen BERT", "items": "the decoder"}


@dataclass(frozen=True)
class MapFiles:
    """The files of one map."""

    points: Path
    page: Path
    whole: Path
    few: Path


def map_files(run: Run, embeddings: Embeddings, figures_folder: Path) -> MapFiles:
    """Return where the files of the map of a run's ``embeddings`` lie."""
    start = f"{run.name}-map-{embeddings}"
    return MapFiles(
        run.report_folder / f"map-{embeddings}.parquet",
        run.report_folder / f"map-{embeddings}.html",
        figures_folder / f"{start}.png",
        figures_folder / f"{start}-{N_FEW}.png",
    )
