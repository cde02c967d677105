"""The decoder beside the best other system of each test: ``python -m tools.quality_table --write docs/results.md``.

Figures come from ``benchmarks/results``, as ``make bench-quality`` wrote them: none is typed by hand. The best
other system is picked on the test set, which favours it.
"""

import argparse
import re
from pathlib import Path
from typing import Any, Final

from recsys.errors import RecsysError
from recsys.reports.glossary import metric_name
from recsys.storage import read_json, write_text
from tools.summary import between, put_between

RESULTS: Final = Path(__file__).parents[1] / "benchmarks" / "results"
MARK: Final = "quality"
#: Data set, segment and metric of each line → name of the test, one name for each metric.
LINES: Final = {
    ("completejourney", "all", "map@12"): "Complete Journey, everything bought in the week",
    ("completejourney", "repeated", "recall@12"): "– items bought before",
    ("completejourney", "new", "map@12"): "– items new to the customer",
    ("online_retail", "all", "map@12"): "UCI Online Retail, three windows of 30 days",
    ("online_retail", "new", "map@12"): "– items new to the customer",
    ("hm_week", "all", "map@12"): "H&M, two days, everybody who bought",
    ("hm_week", "with_history", "map@12"): "– customers with a purchase in the five days before",
    ("hm_week", "without_history", "map@12"): "– customers without",
    ("cold_completejourney", "hidden", "recall@12"): "Complete Journey, items that never sold",
    ("cold_hm_week", "hidden", "recall@12"): "H&M, items that never sold",
    ("cold_hm_week", "hidden, with_history", "recall@12"): "– customers with a purchase in the five days before",
    ("beauty", "all", "hit_rate@10"): "Amazon Beauty, the last item",
    ("beauty", "all", "ndcg@10"): "Amazon Beauty, the last item",
    ("ml-1m", "all", "hit_rate@10"): "MovieLens-1M, the last item",
    ("ml-1m", "all", "ndcg@10"): "MovieLens-1M, the last item",
}
#: Of systems that are level, the first here is named.
_NAMES: Final = {
    "popularity": "best sellers",
    "als": "ALS",
    "covisitation": "co-visitation",
    "gp_topfreq": "GP-TopFreq",
    "tifu_knn": "TIFU-KNN",
    "transitions": "transitions",
    "transitions_training_counts": "transitions of the training part",
    "item_knn": "item-kNN",
    "popularity_week": "the week's best sellers",
    "random": "random order",
    "repeat": "repeat rule",
    "variants": "variants rule",
    "lightgbm (peer)": "LightGBM",
    "sasrec (peer)": "RecTools' SASRec",
    "ligr (peer)": "RecTools' LiGR",
}


def table(results: Path = RESULTS) -> str:
    """Return the table in Markdown, a line for each of ``LINES``.

    Raises:
        RecsysError: a system that is the best somewhere has no name here.
    """
    lines = [
        "| test | metric | decoder | best other system | | decoder minus it | commit |",
        "|---|---|---:|---|---:|---:|---|",
    ]
    for (data, segment, metric), question in LINES.items():
        found = read_json(results / f"quality-{data}.json")
        wanted = {"segment": segment, "metric": metric, "fold": "mean"}
        rows = {row["system"]: row for row in found["rows"] if wanted.items() <= row.items()}
        best = best_other(rows)
        (apart,) = (row for row in found["differences"] if (wanted | {"to": best}).items() <= row.items())
        cells = [
            question,
            metric_name(metric),
            _with_interval(rows["decoder"]),
            _named(best),
            f"{rows[best]['value']:.4f}",
            _with_interval(apart),
            ", ".join(commits_of(found)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def best_other(rows: dict[str, dict[str, Any]]) -> str:
    """Return the name of the highest of ``rows`` by system that has nothing of the decoder in it."""
    others = [name for name in rows if not name.startswith("decoder") and name not in ("no_decoder", "rerank")]
    known = list(_NAMES)
    others.sort(key=lambda name: known.index(name) if name in known else len(known))
    return max(others, key=lambda name: float(rows[name]["value"]))


def commits_of(found: dict[str, Any]) -> list[str]:
    """Return the commits of all seeds in ``found``, and that by which rules were measured, each once.

    >>> commits_of({"commit": "8579e26aff67", "protocol": {"seeds": {"42": {"trained_by": ["c961394d01d1"]}}}})
    ['c961394', '8579e26']
    """
    trained = [one for seed in found["protocol"].get("seeds", {}).values() for one in seed["trained_by"]]
    return list(dict.fromkeys(_short(one) for one in (*trained, found["commit"])))


def _short(commit: str) -> str:
    """Return a commit as Git abbreviates it, and whether the working tree was another then.

    >>> _short("8579e26aff67+changes")
    '8579e26+changes'
    """
    number, changed, _ = commit.partition("+")
    return f"{number[:7]}+changes" if changed else number[:7]


def _with_interval(row: dict[str, Any]) -> str:
    return f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]".replace("-", "−")


def _named(system: str) -> str:
    """Return a system's name in words.

    >>> _named("rrf(als, lightgbm (peer))")
    'ALS and LightGBM, fused'
    """
    fused = re.fullmatch(r"rrf\((\w+), (.+)\)", system)
    if fused:
        return f"{_named(fused[1])} and {_named(fused[2])}, fused"
    if system not in _NAMES:
        raise RecsysError(
            f"{system} is the best somewhere, and {__file__} has no name for it; expected one of {', '.join(_NAMES)}"
        )
    return _NAMES[system]


def shown(page: str) -> str:
    """Return the table in ``page``."""
    return between(page, MARK).strip()


def main() -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the marks of this page")
    page = parser.parse_args().write
    if page is None:
        print(table())
    else:
        write_text(page, put_between(page.read_text(encoding="utf-8"), MARK, f"\n{table()}\n"))


if __name__ == "__main__":
    main()
