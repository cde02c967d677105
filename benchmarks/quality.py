"""Whether the decoder is better than every rule, over seeds, with intervals: ``python -m benchmarks.quality DATA``.

Data are prepared and decoders trained by the commands that a person would type, in a folder of their own, one process
a seed; then lists are made and scored here. What every customer got by a seed is kept in a file, and the tables are
made from all files that are there: seeds may come on different days. The decoder's value for a customer is the mean
over the seeds; customers are redrawn afterwards, so what is easy about a customer cancels in the differences. Each
seed's own mean stands beside.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.process import ROOT
from benchmarks.quality_cold import list_hidden, prepare_hidden_task
from benchmarks.quality_data import DataSet, find_data_set, names_of, raw_of
from benchmarks.quality_lists import (
    NO_DECODER,
    Commands,
    ListedFold,
    Task,
    cost_of_training,
    list_folds,
    member,
    prepare_task,
    train_all,
)
from benchmarks.quality_seeds import (
    Seed,
    given_of,
    measure_seed,
    provenance,
    read_seeds,
    require_agreement,
    terms_of,
    to_measure,
    write_seed,
)
from benchmarks.quality_tables import Scored, differences_of, markdown_of, rows_of, score_part, settings_for
from benchmarks.rerank import RERANK
from benchmarks.results import RESULTS, machine, write_section
from recsys.console import SetOption, run, talk
from recsys.errors import RunError, UsageError
from recsys.evaluation.bootstrap import CONFIDENCE, RESAMPLING_SEED
from recsys.schema import DECODER
from recsys.storage import code_version, write_json

_FUSION = "rrf(a, b): sum of 1 / (60 + rank); a is the best rule on the very targets that are scored"
CONFIG = ROOT / "configs" / "base.yaml"
#: Instead of seeds: train none, and make the tables of the files that are there.
NO_SEED = "none"

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
    seeds: Annotated[
        str, typer.Option("--seeds", help=f"Seeds to measure, separated by spaces; {NO_SEED}: only tables are made.")
    ] = "42 43 44",
    work: WorkOption = None,
    peers: Annotated[
        Path | None, typer.Option("--peers", help="Recommendations of other programs: <system>/<fold>[-new].parquet.")
    ] = None,
    jobs: JobsOption = 1,
    out: OutOption = None,
    settings: SetOption = None,
) -> None:
    """Train the decoder of configs/base.yaml with several seeds and hold it against every rule."""
    names, numbers = names_of(name), [] if seeds == NO_SEED else seeds_of(seeds)
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
            task, listed, measured = _measure(commands, numbers, peers, jobs, out_folder / "results" / "seeds" / one)
            scored = _score(task, data_set, listed, measured)
            result = _result(commands, task, measured, scored, jobs) | circumstances(began)
            publish(f"quality-{one}", result, _section(one, result, scored), out_folder)


def _measure(
    commands: Commands, numbers: list[int], peers: Path | None, jobs: int, folder: Path
) -> tuple[Task, list[ListedFold], dict[int, Seed]]:
    """Train and list what no file in ``folder`` holds yet, write that, and return it with the seeds of all files.

    Raises:
        RunError: there is no seed, or one that was asked something else; a file is damaged.
    """
    kept = read_seeds(folder)
    if not kept and not numbers:
        raise RunError(f"{folder} holds no seed to make tables of; measure some: --seeds 42")
    data_set = commands.data_set
    if data_set.whole is not None:
        task = prepare_hidden_task(commands)
    else:
        task = prepare_task({DECODER: commands, NO_DECODER: commands.without_decoder()})
    terms = terms_of(task, data_set)
    wanted = to_measure(numbers, kept, terms)
    require_agreement({number: seed for number, seed in kept.items() if number not in wanted}, terms, folder)
    runs = train_all(task.commands, wanted, jobs)
    if task.hidden is not None:
        listed = list_hidden(task, task.hidden, runs, wanted)
    else:
        listed = list_folds(task, runs, peers, reranked=RERANK in task.systems, jobs=jobs)
    for number in wanted:
        write_seed(measure_seed(number, task, data_set, listed, runs, commands.threads), folder)
    measured = read_seeds(folder)  # another run may have written some meanwhile
    require_agreement(measured, terms, folder)
    return task, listed, measured


def _result(
    commands: Commands, task: Task, seeds: Mapping[int, Seed], scored: list[Scored], jobs: int
) -> dict[str, Any]:
    trained = " ".join(["configs/base.yaml", *(f"--set {setting}" for setting in commands.settings)])
    protocol = _protocol(commands.data_set, task, seeds, scored)
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


def _score(task: Task, data_set: DataSet, listed: list[ListedFold], seeds: Mapping[int, Seed]) -> list[Scored]:
    settings = settings_for(list(seeds), task.configs[0].evaluation.n_bootstrap, task.systems)
    scored = []
    for part in data_set.parts:
        talk.print(f"scoring {part.segment}")
        scores = score_part(part, listed, data_set, settings, given_of(part, seeds, task.systems))
        if scores is None:
            talk.print(f"no customer has targets in segment {part.segment}: it is left out")
        else:
            scored.append(scores)
    return scored


def _protocol(data_set: DataSet, task: Task, seeds: Mapping[int, Seed], scored: list[Scored]) -> dict[str, Any]:
    config, data = task.configs[0], task.data
    return {
        "name": config.split.protocol,
        "description": data_set.about,
        "candidates": task.candidates,
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
        "seeds": {str(number): provenance(seed) for number, seed in seeds.items()},
        "decoders": {
            str(number) if system == DECODER else member(number, system): seed.about["trainings"][system]
            for system in task.commands
            for number, seed in seeds.items()
        },
        **task.notes,
    }


def _section(name: str, result: dict[str, Any], scored: list[Scored]) -> str:
    protocol = result["protocol"]
    drawn = protocol["bootstrap"]
    hidden, fusion = protocol.get("hidden"), f" {protocol['fusion']}." if "fusion" in protocol else ""
    chance = f" By chance {hidden['expected_recall_of_random']:.4f} Recall@12 are expected." if hidden else ""
    training = cost_of_training(protocol["decoders"].values(), protocol["jobs"])
    cost = f"{training}, {result['seconds']:,.0f} s this time in all"
    has_peers = any(row["system"].endswith(" (peer)") for row in result["rows"])
    lists = " PEER_LISTS=<lists of make bench-peers>" if has_peers else ""
    lines = f"""## Quality on {name}

`make bench-quality DATA={name} SEEDS="{" ".join(protocol["seeds"])}"{lists}`, decoder of `{protocol["config"]}`.
{protocol["description"]}
Candidates are {protocol["candidates"]}.{chance} Brackets hold
{100 * drawn["confidence"]:g} % of {drawn["resamples"]:,} redrawn sets of customers, paired for differences.{fusion}
{result["date"]}, commit {result["commit"]}. {result["machine"]}, {protocol["threads"]} threads; {cost}.
{_seeds_in_words(result)}
"""
    return "\n".join([lines, *(markdown_of(part) for part in scored)])


def _seeds_in_words(result: dict[str, Any]) -> str:
    """Return where each seed comes from; several commits are not hidden."""
    seeds, words = result["protocol"]["seeds"], []
    for number, seed in seeds.items():
        trained = ", ".join(seed["trained_by"])
        code = f"commit {trained}" if trained == seed["commit"] else f"trained by {trained}, listed by {seed['commit']}"
        elsewhere = "" if seed["machine"] == result["machine"] else f", {seed['machine']}"
        words.append(f"{number} ({seed['date']}, {code}{elsewhere})")
    commits = {result["commit"]} | {one for seed in seeds.values() for one in (*seed["trained_by"], seed["commit"])}
    mixed = f" **{len(commits)} commits are mixed here: {', '.join(sorted(commits))}.**" if len(commits) > 1 else ""
    return f"Seeds: {', '.join(words)}.{mixed}"


if __name__ == "__main__":
    run(app)
