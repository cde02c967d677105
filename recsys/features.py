"""Write what is counted about items at a date as a folder that needs no log: ``python -m recsys.features``."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.config import INTERIM_DIR, load_config
from recsys.console import ConfigOption, DateOption, ForceOption, SetOption, run, talk
from recsys.data.days import day_date, parse_day
from recsys.data.purchases import open_purchases
from recsys.signals.snapshot import Snapshots
from recsys.storage import require_absent

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: ConfigOption = None,
    settings: SetOption = None,
    day: DateOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder; data/interim/snapshots/<data>/<date> by default.")] = None,
    force: ForceOption = False,
) -> None:
    """Write the snapshot of items at a date: sales, promotions, categories, co-purchases, repurchase hazards."""
    data = load_config(config, settings).data
    log = open_purchases(data.folder, data.prepare_command)
    chosen = parse_day(day, log.last_day + 1)
    folder = out or INTERIM_DIR / "snapshots" / data.folder.name / day_date(chosen).isoformat()
    require_absent(folder, force=force)
    Snapshots(log).at(chosen).save(folder)
    talk.print(f"items at {day_date(chosen)}: {log.n_items:,} of them, by purchases before that day")
    typer.echo(folder)


if __name__ == "__main__":
    run(app)
