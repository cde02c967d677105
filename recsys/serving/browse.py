"""Look at a run in the browser: the page of the service, on this machine alone."""

from importlib import import_module

import typer

from recsys.console import RunOption, run
from recsys.serving.serve import DatabaseOption, PortOption

app = typer.Typer(add_completion=False)


@app.command()
def main(run_name: RunOption = None, port: PortOption = 0, database: DatabaseOption = None) -> None:
    """Open a page on customers, their lists and why, rules, the map of items, and the report."""
    server = import_module("recsys.serving.server")
    server.serve([run_name], "127.0.0.1", port, database, server.Limits(), opens_browser=True)


if __name__ == "__main__":
    run(app)
