"""What each part of the decoder is worth: ``python -m benchmarks.ablation``.

Every variant leaves out one part of ``configs/base.yaml``, puts another in its place, or adds one (``with_…``), is
trained with the same seeds on the same data, and is held against the whole on the same customers. The weeks are those
on which choices are made (they lie before the test weeks of :mod:`benchmarks.quality`); one training serves all three,
where each test week has its own.
"""

import os
import time
from contextlib import chdir
from dataclasses import replace
from typing import Annotated, Any, Final

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
from benchmarks.quality_lists import Commands, cost_of_training, describe_runs, list_folds, train_all
from benchmarks.quality_tables import MEAN, Scored, differences_of, rows_of, score_part, settings_for
from recsys.console import SetOption, run
from recsys.errors import UsageError
from recsys.schema import DECODER

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
    "no_next_item_loss": ("window losses alone", ("training.next_weight=0",)),
    "next_item_alone": (
        "a plain next-item decoder: the transformer alone, no dates, no windows",
        (
            "model.components=[sequence]",
            "model.time_gaps=false",
            "training.query_windows=0",
        ),
    ),
}
#: The weeks of choices; the length of a training stands here too, so that a change elsewhere does not alter variants.
SHORT: Final = ("split.end=2017-12-11", "training.recent_days=60", "training.query_windows=8", "training.epochs=2")
_DATA: Final = "completejourney"

app = typer.Typer(add_completion=False)


@app.command()
def main(
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
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    data_set = replace(DATA_SETS[_DATA], retrained=False)
    with working_folder(work) as folder, chdir(folder):
        # What the variant sets comes last: it may leave out what the short training sets.
        commands = {
            name: Commands(
                _DATA, data_set, CONFIG, (*SHORT, *(settings or ()), *VARIANTS[name][1]), threads, prefix=f"{name}-"
            )
            for name in names
        }
        commands[DECODER].prepare()
        runs = train_all(commands, numbers, jobs)
        _, folds = list_folds(data_set, runs, None, jobs=jobs)
    n_resamples = next(iter(runs.values()))[0].config.evaluation.n_bootstrap
    drawn = settings_for(numbers, n_resamples, tuple(names))
    parts = (replace(part, metrics=part.metrics[:1]) for part in data_set.parts)
    scored = [scores for part in parts if (scores := score_part(part, folds, data_set, drawn)) is not None]
    result = {
        "protocol": {
            "description": data_set.about,
            "settings": [*SHORT, *(settings or ())],
            "threads": threads,
            "jobs": jobs,
        }
        | {"variants": {name: {"about": VARIANTS[name][0], "settings": VARIANTS[name][1]} for name in names}}
        | {"decoders": {name: describe_runs(found) for name, found in runs.items()}},
        "rows": [row for part in scored for row in rows_of(part)],
        "differences": [row for part in scored for row in differences_of(part)],
        **circumstances(began),
    }
    publish("ablation", result, _section(result, scored, names, numbers), out_folder)


def _variants_of(words: str) -> list[str]:
    names = words.replace(",", " ").split()
    for name in names:
        if name not in VARIANTS:
            raise UsageError(f"there is no variant {name!r}; expected some of {', '.join(VARIANTS)}")
    return [DECODER, *(name for name in VARIANTS if name in names and name != DECODER)]


def _section(result: dict[str, Any], scored: list[Scored], names: list[str], seeds: list[int]) -> str:
    heads = [f"{part.part.segment}: {part.part.metrics[0].upper()}" for part in scored]
    rules = [name for name in scored[0].tables[MEAN] if name in DATA_SETS[_DATA].rules]
    training = cost_of_training(result["protocol"]["decoders"].values(), result["protocol"]["jobs"])
    short = ", ".join(f"`{setting}`" for setting in result["protocol"]["settings"][1:])
    lines = [
        "## What each part is worth",
        "",
        f'`make ablation SEEDS="{" ".join(map(str, seeds))}" VARIANTS="{" ".join(names[1:])}"`: '
        "configs/base.yaml without one part each, or with another in its place, Complete "
        "Journey, mean of the weeks of 2017-11-20, 2017-11-27 and 2017-12-04, none of them a test week; trainings "
        f"shortened by {short}. Values are means over the seeds; brackets hold 95 % of the redrawn sets of customers "
        f"of the whole minus the variant, paired. {result['date']}, commit {result['commit']}. {result['machine']}, "
        f"{result['protocol']['threads']} threads; {training}, "
        f"{result['seconds']:,.0f} s this time in all.",
        "",
        f"| system | {' | '.join(f'{head} | the whole minus it' for head in heads)} |",
        f"|---|{'---:|---:|' * len(heads)}",
    ]
    for name in [*names, *rules]:
        about = f"{name}: {VARIANTS[name][0]}" if name in VARIANTS else name
        cells = [_cell(part, name) for part in scored]
        lines.append(f"| {about} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(part: Scored, name: str) -> str:
    metric = part.part.metrics[0]
    value = f"{part.tables[MEAN][name][metric]['value']:.4f}"
    if name == DECODER:
        return f"{value} | "
    apart = part.differences[MEAN][name][metric]
    return f"{value} | {apart['value']:+.4f} [{apart['low']:+.4f}, {apart['high']:+.4f}]"


if __name__ == "__main__":
    run(app)
