"""Serve a run over HTTP, with live events and a page to look at it; its help loads no torch."""

from importlib import import_module
from typing import Annotated

import typer

from recsys.console import RunOption, run

app = typer.Typer(add_completion=False)

PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")]
DatabaseOption = Annotated[
    str | None, typer.Option(help="postgresql://… or sqlite:///…; data/serving/<run>.sqlite by default.")
]


@app.command()
def main(
    run_name: RunOption = None,
    also: Annotated[list[str] | None, typer.Option(help="Another run that /v1/admin/model may switch to.")] = None,
    host: Annotated[str, typer.Option(help="Where to listen; other than this machine only with keys.")] = "127.0.0.1",
    port: PortOption = 8000,
    database: DatabaseOption = None,
    deadline: Annotated[float, typer.Option(min=0.01, help="Seconds a request may wait; then 503.")] = 2.0,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; then 429.")] = 64,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second of one client; then 429.")] = 2000.0,
) -> None:
    """Answer POST /v1/recommend, take purchases at POST /v1/events, and show both on a page.

    Keys are read from RECSYS_READER_KEYS, RECSYS_WRITER_KEYS and RECSYS_ADMIN_KEYS, separated by commas.
    """
    server = import_module("recsys.serving.server")
    limits = server.Limits(deadline_s=deadline, most_waiting=queue, rate=rate)
    server.serve([run_name, *(also or [])], host, port, database, limits)


if __name__ == "__main__":
    run(app)
