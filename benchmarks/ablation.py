"""What each part of the decoder is worth: ``python -m benchmarks.ablation completejourney``.

Every variant leaves out one part of ``configs/base.yaml``, puts another in its place, or adds one (``with_…``), is
trained with the same seeds on the same data, and is held against the whole on the same customers. The windows are those
on which choices are made (they lie before the test windows of :mod:`benchmarks.quality`); one training serves all of
them, where each test window has its own. The whole is trained whenever a variant is. Rows of variants that are not run
stay as they were measured, each with its own commit and date, and its difference to the whole of that commit.
"""

import os
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from benchmarks.quality import (
    CONFIG,
    JobsOption,
    OutOption,
    SeedsOption,
    WorkOption,
    circumstances,
    folder_of_results,
    publish,
    seeds_of,
    working_folder,
)
from benchmarks.quality_data import DATA_SETS
from benchmarks.quality_lists import Commands, cost_of_training, describe_runs, list_folds, prepare_task, train_all
from benchmarks.quality_tables import MEAN, differences_of, rows_of, score_part, settings_for
from recsys.console import SetOption, run
from recsys.errors import UsageError
from recsys.schema import DECODER
from recsys.storage import read_json

_COMPONENTS: Final = ("sequence", "sales", "past_items", "categories", "co_purchases")


def _without(component: str) -> tuple[str, ...]:
    """Return what leaves one component of the logit out."""
    return (f"model.components=[{','.join(name for name in _COMPONENTS if name != component)}]",)


#: A variant's name → what it says and what it sets. The whole comes first.
VARIANTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    DECODER: ("the whole", ()),
    "no_decoder": ("no transformer: the other components alone", _without("sequence")),
    "no_past_items": ("past items scored like any other", _without("past_items")),
    "no_sales": ("blind to what sells", _without("sales")),
    "no_categories": ("blind to what categories of items the customer buys", _without("categories")),
    "no_co_purchases": ("blind to what others bought with the customer's items", _without("co_purchases")),
    "no_time_gaps": ("blind to days between events and to the wait", ("model.time_gaps=false",)),
    "no_promotions": ("blind to what the seller promotes", ("model.promotions=false",)),
    "no_attributes": ("items known by id alone", ("model.attributes=false",)),
    "with_customer": ("reads the user table too", ("model.customer=true",)),
    "joint_loss_alone": (
        "no losses of repeats and first purchases apart",
        ("training.apart_weight=0",),
    ),
    "no_ranking_loss": ("no loss of the order of the own past", ("training.ranking_weight=0",)),
    "local_attention": ("attention to the last 16 events alone", ("model.attention_window=16",)),
    "next_item_alone": (
        "a plain next-item decoder: the transformer alone, no dates, no windows",
        (
            "model.components=[sequence]",
            "model.time_gaps=false",
            "training.query_windows=0",
        ),
    ),
}


class Earlier(NamedTuple):
    """The windows of choices of a data set, in words and in settings."""

    about: str
    #: The length of a training stands here too, so that a change elsewhere does not alter variants.
    settings: tuple[str, ...]


EARLIER: Final[dict[str, Earlier]] = {
    "completejourney": Earlier(
        "Complete Journey, mean of the weeks of 2017-11-20, 2017-11-27 and 2017-12-04",
        ("split.end=2017-12-11", "training.recent_days=60", "training.query_windows=8", "training.epochs=2"),
    ),
    "online_retail": Earlier(
        "UCI Online Retail, mean of the windows of 30 days from 2011-07-13 and 2011-08-12",
        ("split.end=2011-09-11", "split.n_folds=2", "training.epochs=4"),
    ),
}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[str, typer.Argument(metavar="DATA", help=f"{' or '.join(EARLIER)}.")],
    seeds: SeedsOption = "42 43 44",
    variants: Annotated[
        str, typer.Option("--variants", help="Variants beside the whole, separated by spaces; all by default.")
    ] = " ".join(name for name in VARIANTS if name != DECODER),
    work: WorkOption = None,
    jobs: JobsOption = 1,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Train the decoder without each of its parts, or with others, and say what is lost."""
    began = time.perf_counter()
    numbers, names = seeds_of(seeds), _variants_of(variants)
    out_folder = folder_of_results(out, settings)
    if data not in EARLIER:
        raise UsageError(f"there is no ablation on {data!r}; expected {' or '.join(EARLIER)}")
    result_name, all_settings = f"ablation-{data}", [*EARLIER[data].settings, *(settings or ())]
    earlier = _earlier(out_folder / "results" / f"{result_name}.json", names, all_settings)
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    data_set = replace(DATA_SETS[data], retrained=False)
    with working_folder(work) as folder, chdir(folder):
        # What the variant sets comes last: it may leave out what the short training sets.
        commands = {
            name: Commands(data, data_set, CONFIG, (*all_settings, *VARIANTS[name][1]), threads, prefix=f"{name}-")
            for name in names
        }
        task = prepare_task(commands)
        runs = train_all(commands, numbers, jobs)
        folds = list_folds(task, runs, None, jobs=jobs)
    n_resamples = next(iter(runs.values()))[0].config.evaluation.n_bootstrap
    drawn = settings_for(numbers, n_resamples, tuple(names))
    parts = (replace(part, metrics=part.metrics[:1]) for part in data_set.parts)
    scored = [scores for part in parts if (scores := score_part(part, folds, data_set, drawn)) is not None]
    result = {
        "protocol": {
            "data": data,
            "description": data_set.about,
            "settings": all_settings,
            "threads": threads,
            "jobs": jobs,
        }
        | {"variants": {name: {"about": VARIANTS[name][0], "settings": VARIANTS[name][1]} for name in names}}
        | {"decoders": {name: describe_runs(trained) for name, trained in runs.items()}},
        "rows": [row for part in scored for row in rows_of(part)],
        "differences": [row for part in scored for row in differences_of(part)],
        **circumstances(began),
    }
    result = merged(earlier, result)
    publish(result_name, result, section_of(result, names, numbers), out_folder)


def _variants_of(words: str) -> list[str]:
    names = words.replace(",", " ").split()
    for name in names:
        if name not in VARIANTS:
            raise UsageError(f"there is no variant {name!r}; expected some of {', '.join(VARIANTS)}")
    return [DECODER, *(name for name in VARIANTS if name in names and name != DECODER)]


def _earlier(path: Path, names: Sequence[str], settings: Sequence[str]) -> dict[str, Any] | None:
    """Return the results that stand in ``path``, some of which stay when the variants ``names`` are measured anew.

    Raises:
        UsageError: what would stay was trained with other settings.
    """
    if not path.is_file():
        return None
    earlier: dict[str, Any] = read_json(path)
    before = earlier["protocol"]["settings"]
    stay = [name for name in _staying(earlier, names) if name != DECODER]
    if stay and list(before) != list(settings):
        raise UsageError(
            f"{path} holds variants trained with {' '.join(before)}, expected {' '.join(settings)}; measure these anew "
            f"too, or name another folder with --out: {' '.join(stay)}"
        )
    return earlier


def _staying(earlier: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return the variants of earlier results that still exist and are not among ``names``."""
    return [name for name in earlier["protocol"]["variants"] if name in VARIANTS and name not in names]


def merged(earlier: dict[str, Any] | None, result: dict[str, Any]) -> dict[str, Any]:
    """Return ``result`` with what ``earlier`` results say of variants that were not run this time.

    Every row carries its own commit and date. Rows of rules are those of ``result``; variants that no longer exist are
    dropped.
    """
    measured, protocol = _dated(result), result["protocol"]
    if earlier is None:
        return measured
    stay, before = _staying(earlier, list(protocol["variants"])), earlier["protocol"]
    kept = _dated(earlier)
    variants = before["variants"] | protocol["variants"]
    decoders = {name: runs for name, runs in before["decoders"].items() if name.rpartition("/")[0] in stay}
    joined = {
        "variants": {name: variants[name] for name in VARIANTS if name in variants},
        "decoders": protocol["decoders"] | decoders,
    }
    return measured | {
        "protocol": protocol | joined,
        "rows": [*measured["rows"], *(row for row in kept["rows"] if row["system"] in stay)],
        "differences": [*measured["differences"], *(row for row in kept["differences"] if row["to"] in stay)],
    }


def _dated(result: dict[str, Any]) -> dict[str, Any]:
    """Return results of which each row has a commit and a date, by default those of the whole file."""
    of_file = {"commit": result["commit"], "date": result["date"]}
    return result | {name: [of_file | row for row in result[name]] for name in ("rows", "differences")}


def section_of(result: dict[str, Any], names: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the section of RESULTS.md: all rows of ``result``, of which ``names`` were measured this time."""
    values = {(row["segment"], row["metric"], row["system"]): row for row in result["rows"] if row["fold"] == MEAN}
    apart = {(row["segment"], row["metric"], row["to"]): row for row in result["differences"] if row["fold"] == MEAN}
    parts = list(dict.fromkeys((segment, metric) for segment, metric, _ in values))
    data = result["protocol"]["data"]
    systems = [name for name in (*VARIANTS, *DATA_SETS[data].rules) if (*parts[0], name) in values]
    heads = [f"{segment}: {metric.upper()}" for segment, metric in parts]
    decoders = result["protocol"]["decoders"].items()
    trained = [runs for name, runs in decoders if name.rpartition("/")[0] in names]
    settings = result["protocol"]["settings"]
    short = ", ".join(f"`{one}`" for one in settings if not one.startswith("split."))
    lines = [
        f"## What each part is worth: {data}",
        "",
        f'`make ablation DATA={data} SEEDS="{" ".join(map(str, seeds))}" VARIANTS="{" ".join(names[1:])}"`: '
        f"configs/base.yaml without one part each, or with another in its place, {EARLIER[data].about}, none of them a "
        f"test window; trainings with {short}. Values are means over the seeds; brackets hold 95 % of the redrawn sets "
        "of customers of the whole minus the variant, paired. A row of another commit than the whole's is of an "
        "earlier run, and its difference is to the whole of its own commit. "
        f"{result['date']}, commit {result['commit']}. {result['machine']}, {result['protocol']['threads']} thread(s); "
        f"{cost_of_training(trained, result['protocol']['jobs'])}, {result['seconds']:,.0f} s this time in all.",
        "",
        f"| system | {' | '.join(f'{head} | the whole minus it' for head in heads)} | measured |",
        f"|---|{'---:|---:|' * len(heads)}---|",
    ]
    for name in systems:
        about = f"{name}: {VARIANTS[name][0]}" if name in VARIANTS else name
        cells = [_cell(values[*part, name], apart.get((*part, name))) for part in parts]
        row = values[*parts[0], name]
        lines.append(f"| {about} | {' | '.join(cells)} | {row['date']}, {row['commit']} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], apart: dict[str, Any] | None) -> str:
    if apart is None:  # the whole
        return f"{row['value']:.4f} | "
    return f"{row['value']:.4f} | {apart['value']:+.4f} [{apart['low']:+.4f}, {apart['high']:+.4f}]"


if __name__ == "__main__":
    run(app)
