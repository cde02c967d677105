"""Whether the decoder is better than every rule, over seeds, with intervals: ``python -m benchmarks.quality DATA``.

Data are prepared and decoders trained by the commands that a person would type, in a folder of their own, one process
a seed; then lists are made and scored here. The decoder's value for a customer is the mean over the seeds; customers
are redrawn afterwards, so what is easy about a customer cancels in the differences. Each seed's own mean stands beside.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.process import ROOT
from benchmarks.quality_cold import measure_cold
from benchmarks.quality_data import DataSet, find_data_set, names_of, raw_of
from benchmarks.quality_lists import (
    NO_DECODER,
    Commands,
    Measured,
    cost_of_training,
    describe_runs,
    list_folds,
    member,
    seed_of,
    train_all,
)
from benchmarks.quality_tables import Scored, differences_of, markdown_of, rows_of, score_part, settings_for
from benchmarks.rerank import RERANK, can_rerank
from benchmarks.results import RESULTS, machine, write_section
from recsys.console import SetOption, run, talk
from recsys.errors import UsageError
from recsys.evaluation.bootstrap import CONFIDENCE, RESAMPLING_SEED
from recsys.schema import DECODER
from recsys.storage import code_version, write_json

_FUSION = "rrf(a, b): sum of 1 / (60 + rank); a is the best rule on the very targets that are scored"
CONFIG = ROOT / "configs" / "base.yaml"

#: Options of every benchmark that trains.
SeedsOption = Annotated[str, typer.Option("--seeds", help="Seeds of what is trained, separated by spaces.")]
WorkOption = Annotated[
    Path | None, typer.Option("--work", help="Folder to train in, kept, so that an interrupted benchmark goes on.")
]
JobsOption = Annotated[
    int, typer.Option("--jobs", min=1, help="Trainings, and then systems asked, at a time: more only where cores idle.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder of RESULTS.md and results/; benchmarks/.")]

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Data set: see benchmarks/quality_data.py; cold is two, with items hidden from training.",
        ),
    ],
    seeds: SeedsOption = "42 43 44",
    work: WorkOption = None,
    peers: Annotated[
        Path | None, typer.Option("--peers", help="Recommendations of other programs: <system>/<fold>[-new].parquet.")
    ] = None,
    jobs: JobsOption = 1,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Train the decoder of configs/base.yaml with several seeds and hold it against every rule."""
    names, numbers = names_of(name), seeds_of(seeds)
    data_sets = {one: find_data_set(one) for one in names}
    out_folder = folder_of_results(out, settings)
    if peers is not None and not peers.is_dir():
        raise UsageError(f"--peers {peers} is not a folder; expected one with <system>/<fold>.parquet")
    if peers is not None and any(data_set.whole for data_set in data_sets.values()):
        raise UsageError(f"--peers has no place in {name}: lists of other programs know the hidden items")
    peers = None if peers is None else peers.resolve()
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    with working_folder(work) as folder, chdir(folder):
        for one, data_set in data_sets.items():
            raw_of(one, data_set, folder)  # says at once what is missing
        for one, data_set in data_sets.items():
            began = time.perf_counter()
            commands = Commands(one, data_set, CONFIG, tuple(settings or ()), threads)
            measured = _measure(commands, numbers, peers, jobs)
            scored = _score(data_set, measured, numbers)
            result = _result(commands, measured, scored, jobs) | circumstances(began)
            publish(f"quality-{one}", result, _section(one, result, scored, numbers), out_folder)


def _measure(commands: Commands, seeds: list[int], peers: Path | None, jobs: int) -> Measured:
    if commands.data_set.whole is not None:
        return measure_cold(commands, seeds, jobs)
    commands.prepare()
    runs = train_all({DECODER: commands, NO_DECODER: commands.without_decoder()}, seeds, jobs)
    reranked = all(can_rerank(one) for trained in runs.values() for one in trained)
    data, folds = list_folds(commands.data_set, runs, peers, reranked=reranked, jobs=jobs)
    systems = (DECODER, NO_DECODER, *([RERANK] * reranked))
    return Measured(data, folds, runs, systems, f"all {data.n_items:,} items")


def _result(commands: Commands, measured: Measured, scored: list[Scored], jobs: int) -> dict[str, Any]:
    trained = " ".join(["configs/base.yaml", *(f"--set {setting}" for setting in commands.settings)])
    protocol = _protocol(commands.data_set, measured, scored)
    return {
        "protocol": protocol | {"config": trained, "threads": commands.threads, "jobs": jobs},
        "rows": [row for part in scored for row in rows_of(part)],
        "differences": [row for part in scored for row in differences_of(part)],
    }


def folder_of_results(out: Path | None, settings: list[str] | None) -> Path:
    """Return where results are written.

    Raises:
        UsageError: ``settings`` make another decoder, whose results would stand under the name of base.
    """
    if settings and out is None:
        raise UsageError("--set makes another decoder than that of configs/base.yaml: say with --out where to write it")
    return (out or RESULTS.parent).resolve()


def circumstances(began: float) -> dict[str, Any]:
    """Return how long it took since ``began`` (``time.perf_counter``), where, when, and with which code."""
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "machine": machine(),
        "commit": code_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def publish(name: str, result: dict[str, Any], section: str, out: Path) -> None:
    """Write ``results/<name>.json`` and the section of RESULTS.md, and print both."""
    path = out / "results" / f"{name}.json"
    write_json(path, result)
    write_section(name, section, out / RESULTS.name)
    talk.print(section, markup=False)
    typer.echo(path)


def seeds_of(seeds: str) -> list[int]:
    """Return the seeds in an option's text.

    Raises:
        UsageError: it holds something else, or one twice.
    """
    words = seeds.replace(",", " ").split()
    if not words or not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise UsageError(f'--seeds {seeds!r}: expected distinct whole numbers, such as "42 43 44"')
    return [int(word) for word in words]


@contextmanager
def working_folder(work: Path | None) -> Iterator[Path]:
    """Yield the folder ``work``, made if it is missing; without one, a folder that is removed in the end."""
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as temporary:
        yield Path(temporary)


def _score(data_set: DataSet, measured: Measured, seeds: list[int]) -> list[Scored]:
    n_resamples = next(iter(measured.runs.values()))[0].config.evaluation.n_bootstrap
    settings = settings_for(seeds, n_resamples, measured.systems)
    scored = []
    for part in data_set.parts:
        talk.print(f"scoring {part.segment}")
        scores = score_part(part, measured.folds, data_set, settings)
        if scores is None:
            talk.print(f"no customer has targets in segment {part.segment}: it is left out")
        else:
            scored.append(scores)
    return scored


def _protocol(data_set: DataSet, measured: Measured, scored: list[Scored]) -> dict[str, Any]:
    config, data = next(iter(measured.runs.values()))[0].config, measured.data
    return {
        "name": config.split.protocol,
        "description": data_set.about,
        "candidates": measured.candidates,
        "settings": dict(data_set.settings),
        "segments": {
            one.part.segment: {
                "targets": one.part.targets,
                "exclude_seen": one.part.exclude_seen,
                "n_users": one.n_users,
                "best_rule": one.best_rule,
            }
            for one in scored
        },
        **({"fusion": _FUSION} if data_set.rules else {}),
        "bootstrap": {
            "resamples": config.evaluation.n_bootstrap,
            "confidence": CONFIDENCE,
            "seed": RESAMPLING_SEED,
            "unit": "customers, after their values were averaged over the decoder's seeds",
        },
        "data": {
            "source": config.data.source,
            "fingerprint": data.fingerprint,
            "n_events": data.n_events,
            "n_users": data.n_users,
            "n_items": data.n_items,
        },
        "decoders": {_run_name(name): describe_runs(trained) for name, trained in measured.runs.items()},
        **measured.notes,
    }


def _run_name(name: str) -> str:
    """Return the seed of a decoder, and of what else was trained the whole name."""
    return str(seed_of(name)) if name == member(seed_of(name)) else name


def _section(name: str, result: dict[str, Any], scored: list[Scored], seeds: list[int]) -> str:
    protocol = result["protocol"]
    drawn = protocol["bootstrap"]
    hidden, fusion = protocol.get("hidden"), f" {protocol['fusion']}." if "fusion" in protocol else ""
    chance = f" By chance {hidden['expected_recall_of_random']:.4f} Recall@12 are expected." if hidden else ""
    training = cost_of_training(protocol["decoders"].values(), protocol["jobs"])
    cost = f"{training}, {result['seconds']:,.0f} s this time in all"
    has_peers = any(row["system"].endswith(" (peer)") for row in result["rows"])
    lists = " PEER_LISTS=<lists of make bench-peers>" if has_peers else ""
    lines = f"""## Quality on {name}

`make bench-quality DATA={name} SEEDS="{" ".join(map(str, seeds))}"{lists}`, decoder of `{protocol["config"]}`.
{protocol["description"]}
Candidates are {protocol["candidates"]}.{chance} Brackets hold
{100 * drawn["confidence"]:g} % of {drawn["resamples"]:,} redrawn sets of customers, paired for differences.{fusion}
{result["date"]}, commit {result["commit"]}. {result["machine"]}, {protocol["threads"]} threads; {cost}.
"""
    return "\n".join([lines, *(markdown_of(part) for part in scored)])


if __name__ == "__main__":
    run(app)
