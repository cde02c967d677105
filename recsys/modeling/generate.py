"""Continue customers' histories: ``recsys generate --run R``. The help of the verb loads no torch."""

import math
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow.parquet as pq
import typer

from recsys.console import ForceOption, RunOption, counted, run, talk
from recsys.errors import UsageError
from recsys.evaluation.splits import histories_to_continue
from recsys.evaluation.tables import CONTINUATIONS_SCHEMA, list_rows
from recsys.modeling.generation import SamplingConfig
from recsys.modeling.memory import keep_freed_memory
from recsys.modeling.recommenders.base import candidates_at
from recsys.reports.generated import PAGE_FILE, SETTINGS_FILE, TABLE_FILE, load_continued
from recsys.reports.shell import REPORT_FILE, fill
from recsys.runs import Run, find_run
from recsys.storage import replacing, require_absent, write_json, write_text

app = typer.Typer()


@app.command()
def main(
    run_name: RunOption = None,
    method: Annotated[Literal["sample", "greedy"], typer.Option(help="Draw items, or take the likeliest.")] = "sample",
    max_items: Annotated[int, typer.Option(min=1, help="The longest continuation.")] = 12,
    n_customers: Annotated[int, typer.Option("--customers", min=1, help="Held-out customers, by seed.")] = 1_000,
    temperature: Annotated[float, typer.Option(min=0.01, help="sample: below 1 likelier items, above rarer.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="sample: draw among this many likeliest only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="sample: draw among the likeliest of this share.")
    ] = None,
    no_repeat: Annotated[
        bool | None,
        typer.Option(
            "--no-repeat/--repeat",
            help="No item twice in a continuation: the default of our decoder, not of the original ones.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 42,
    force: ForceOption = False,
) -> None:
    """Continue held-out customers' histories with the decoder of a run, and lay them beside what was really bought.

    Writes reports/<run>/generated.parquet and generated.html; the run's report shows them too.
    """
    given = {"--temperature": temperature != 1, "--top-k": top_k is not None, "--top-p": top_p is not None}
    ignored = [option for option, is_given in given.items() if is_given and method != "sample"]
    if ignored:
        raise UsageError(f"--method {method} does not look at {', '.join(ignored)}; leave it out, or take sample")
    if not math.isfinite(temperature):
        raise UsageError(f"--temperature is {temperature}; expected a number, 1 for the decoder's own odds")
    found = find_run(run_name)
    keep_freed_memory()
    if no_repeat is None:
        no_repeat = found.config.family != "original"
    sampling = SamplingConfig(method, temperature, top_k, top_p, no_repeat, max_items, seed)
    if not found.info.get("transformer", {"stays": True})["stays"]:
        talk.print("this run leaves its transformer out, so the other components alone continue histories")
    page = generate(found, sampling, n_customers=n_customers, force=force)
    talk.print("Continued histories: the table, and the page that compares them with real ones")
    typer.echo(found.report_folder / TABLE_FILE)
    typer.echo(page)
    again = " --force" if (found.report_folder / REPORT_FILE).is_file() else ""
    talk.print(f"next: recsys report --run {found.name}{again} shows them in the run's report")


def generate(found: Run, sampling: SamplingConfig, *, n_customers: int = 1_000, force: bool = False) -> Path:
    """Continue histories of held-out customers; write the table, its settings and the page, whose path is returned."""
    table, settings, page = (found.report_folder / name for name in (TABLE_FILE, SETTINGS_FILE, PAGE_FILE))
    for path in (table, settings, page):
        require_absent(path, force=force)
    data = found.open_data()
    fold, _ = histories_to_continue(data, found.config.split)
    decoder = import_module("recsys.modeling.lists").load_decoder(found, fold.everybody(data))
    drawn = np.random.default_rng(sampling.seed).permutation(len(fold.user_index))[:n_customers]
    histories = fold.histories(data).of(np.sort(drawn))
    allowed = candidates_at(data, fold.start_day, found.config.predict).allowed
    continue_histories = import_module("recsys.modeling.generation.generate").continue_histories
    with counted("continuing histories") as advance:
        continued = continue_histories(decoder, histories, sampling, allowed, advance)
    settings.unlink(missing_ok=True)  # a table without settings is not read: a new one never meets old ones
    with replacing(table) as aside:
        rows = list_rows(histories, continued.item, continued.log_probability, CONTINUATIONS_SCHEMA)
        pq.write_table(rows, aside)
    request = sampling._asdict()
    if sampling.method == "greedy":
        request = {name: value for name, value in request.items() if name not in ("temperature", "top_k", "top_p")}
    write_json(settings, request | {"ended_by_the_decoder": int(continued.ended.sum())})
    section = load_continued(found, data)
    if section is not None:  # None without a table, which was written just now
        today = date.today().isoformat()
        write_text(page, fill("generated.html.j2", run=found, continued=section, today=today, file=TABLE_FILE))
    return page


if __name__ == "__main__":
    run(app)
