"""What a finished run left where, its metrics, and what to try next: ``python -m tools.summary demo``.

``make demo`` ends with these lines, and the README shows them: no figure there is typed by hand.
"""

import argparse
from pathlib import Path
from typing import Any

from recsys.config import MODELS_DIR, REPORTS_DIR
from recsys.errors import RecsysError
from recsys.schema import SYSTEMS
from recsys.storage import read_json, write_text

MARK = "demo-output"
SHOWN = ("map@12", "ndcg@12", "hit_rate@12")


def summary(run: str) -> str:
    """Return the closing lines of a run: where its outputs lie, systems × metrics, and the next command."""
    report = REPORTS_DIR / run
    places = {
        "weights": MODELS_DIR / run / "weights.safetensors",
        "lists": report / "recommendations.parquet",
        "metrics": report / "metrics.json",
        "report": report / "index.html",
    }
    lines = [f"{name:<9}{path}" for name, path in places.items()]
    following = [
        f"next: recsys serve --run {run}      (lists over HTTP, and a page at http://127.0.0.1:8000/)",
        f"      recsys train --config configs/{run}.yaml --set name={run}-deeper --set model.n_layers=4",
    ]
    return "\n".join([*lines, "", *metrics_table(read_json(report / "metrics.json")), "", *following])


def metrics_table(metrics: dict[str, Any]) -> list[str]:
    """Return the mean over the test windows as lines: a head, then a line for each system with MAP@12's interval."""
    starts = [fold["start"] for fold in metrics["folds"]]
    names = [name for name in SYSTEMS if name in metrics["systems"]]
    head = f"{len(starts)} test windows, from {', '.join(starts)}"
    columns = f"{'':<17}{SHOWN[0]:>7}  {'interval':<16}" + "".join(f"{name:>13}" for name in SHOWN[1:])
    return [head, columns, *(_line(name, metrics["systems"][name]) for name in names)]


def _line(name: str, row: dict[str, dict[str, float]]) -> str:
    first = row[SHOWN[0]]
    interval = f"{first['low']:.4f} – {first['high']:.4f}"
    rest = "".join(f"{row[metric]['value']:>13.4f}" for metric in SHOWN[1:])
    return f"{name:<17}{first['value']:>7.4f}  {interval:<16}{rest}"


def put_between(page: str, mark: str, text: str) -> str:
    """Return ``page`` with ``text`` between the two comments called ``mark``.

    Raises:
        RecsysError: the marks are missing.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise RecsysError(f"found no {begin} … {end} to fill; put the two marks back")
    return f"{before}{begin}{text}{end}{after}"


def between(page: str, mark: str) -> str:
    """Return the text of ``page`` between the two comments called ``mark``; empty where they are missing."""
    return page.partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0]


def filled(readme: str, text: str) -> str:
    """Return ``readme`` with ``text`` as a code block between the marks of the demo's output.

    Raises:
        RecsysError: the marks are missing.
    """
    return put_between(readme, MARK, f"\n```text\n{text}\n```\n")


def shown(readme: str) -> str:
    """Return the text between the marks of ``readme``, without the fence."""
    return between(readme, MARK).strip().removeprefix("```text\n").removesuffix("\n```")


def main() -> None:
    """Print the closing lines of a run, or write them into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", default="demo")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the lines between the marks of this page")
    arguments = parser.parse_args()
    text = summary(arguments.run)
    if arguments.write is None:
        print(text)
    else:
        write_text(arguments.write, filled(arguments.write.read_text(encoding="utf-8"), text))


if __name__ == "__main__":
    main()
