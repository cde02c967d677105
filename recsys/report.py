"""Write one self-contained HTML page about a run: ``recsys report --run R``."""

from datetime import date

import typer

from recsys.console import ForceOption, RunOption, run, talk
from recsys.plots import read_log
from recsys.reporting.customers import load_customers
from recsys.reporting.page import PAGE_FILE, build_page
from recsys.runs import LOG_FILE, find_run
from recsys.scores import SCORES_FILE, load_scores
from recsys.splits import make_split
from recsys.storage import require_absent, write_text

app = typer.Typer()


@app.command()
def main(run_name: RunOption = None, force: ForceOption = False) -> None:
    """Write reports/<run>/index.html: one page that opens from disk, made to be shown to whoever runs the shop."""
    found = find_run(run_name)
    path = found.report_folder / PAGE_FILE
    require_absent(path, force=force)
    scores = load_scores(found.report_folder / SCORES_FILE, found.name)
    log = read_log(found.folder / LOG_FILE)
    data = found.open_data()
    split = make_split(data, found.config.split)
    write_text(path, build_page(found, data, scores, log, load_customers(found, data, split), date.today()))
    talk.print(f"Report written; open it in a browser ({path.stat().st_size / 1e6:.1f} MB, works offline):")
    typer.echo(path)


if __name__ == "__main__":
    run(app)
