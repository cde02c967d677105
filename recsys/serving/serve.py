"""Serve a run over HTTP, with live events and a page to look at it."""

import os
import socket
from collections.abc import Mapping
from typing import Annotated, Final

import typer
import uvicorn

from recsys.console import RunOption, run, talk
from recsys.errors import UsageError
from recsys.runs import find_run
from recsys.serving.app import build_app
from recsys.serving.gate import LOOPBACK, ROLES, Role
from recsys.serving.service import Service, database_url
from recsys.serving.store import Store

app = typer.Typer(add_completion=False)

#: Seconds that requests in flight have left once the server is told to stop.
_DRAIN_S: Final = 20


@app.command()
def main(
    run_name: RunOption = None,
    also: Annotated[list[str] | None, typer.Option(help="Another run that /v1/admin/model may switch to.")] = None,
    host: Annotated[str, typer.Option(help="Where to listen; other than this machine only with keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    database: Annotated[
        str | None, typer.Option(help="postgresql://… or sqlite:///…; data/serving/<run>.sqlite by default.")
    ] = None,
    deadline: Annotated[float, typer.Option(min=0.01, help="Seconds a request may wait; then 503.")] = 2.0,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; then 429.")] = 256,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second of one client; then 429.")] = 2000.0,
) -> None:
    """Answer POST /v1/recommend, take purchases at POST /v1/events, and show both on a page.

    Keys are read from RECSYS_READER_KEYS, RECSYS_WRITER_KEYS and RECSYS_ADMIN_KEYS, separated by commas.
    """
    serve(run_name, also or [], host, port, database, deadline, queue, rate)


def serve(
    run_name: str | None,
    also: list[str],
    host: str,
    port: int,
    database: str | None,
    deadline: float,
    queue: int,
    rate: float,
) -> None:
    """Serve until told to stop; see :func:`main`."""
    keys = _keys(os.environ)
    if host not in LOOPBACK and not keys:
        raise UsageError(
            f"--host is {host}, and no keys are set; expected RECSYS_READER_KEYS, RECSYS_WRITER_KEYS and "
            "RECSYS_ADMIN_KEYS in the environment, since anybody could ask; set them, or listen at 127.0.0.1"
        )
    runs = [find_run(name) for name in dict.fromkeys([run_name, *also])]
    listening = _listen(host, port)
    store = Store.open(database_url(runs[0], database))
    service = Service(runs, store, most_waiting=queue, deadline_s=deadline)
    try:
        about = service.about()["data"]
        talk.print(
            f"serving {runs[0].name} on http://{host}:{port}/ ({about['n_users']:,} customers, "
            f"{about['n_items']:,} items, purchases until {about['last_date']}); Ctrl-C stops it"
        )
        config = uvicorn.Config(
            build_app(service, keys, rate),
            http="httptools",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_S,
            timeout_keep_alive=30,
        )
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        service.close()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; a UsageError says what is in the way, before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise UsageError(f"cannot listen at {host}:{port} ({error}); choose another --port or --host") from error
    return listening


def _keys(environment: Mapping[str, str]) -> dict[Role, list[str]]:
    keys: dict[Role, list[str]] = {}
    for role in ROLES:
        given = [key.strip() for key in environment.get(f"RECSYS_{role.upper()}_KEYS", "").split(",") if key.strip()]
        short = next((key for key in given if len(key) < 16), None)
        if short is not None:
            raise UsageError(f"RECSYS_{role.upper()}_KEYS holds a key of {len(short)} characters; expected 16 or more")
        if given:
            keys[role] = given
    return keys


if __name__ == "__main__":
    run(app)
