"""A server of a run: where it listens, whose keys it knows, and how it starts and ends."""

import gc
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Final, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from recsys.console import talk
from recsys.errors import UsageError
from recsys.runs import find_run
from recsys.serving.app import build_app
from recsys.serving.gate import LOOPBACK, ROLES, Role
from recsys.serving.opening import database_url
from recsys.serving.service import Service
from recsys.serving.store import Store

#: Seconds that requests in flight have left once the server is told to stop.
_DRAIN_S: Final = 20


class Limits(NamedTuple):
    """How much is taken on: seconds that a request may wait, how many may, and requests a second of one client."""

    deadline_s: float = 2.0
    most_waiting: int = 64
    rate: float = 2000.0


def serve(
    run_names: Sequence[str | None],
    host: str,
    port: int,
    database: str | None,
    limits: Limits,
    *,
    opens_browser: bool = False,
) -> None:
    """Serve runs, the first of which answers, until told to stop.

    UsageError: other machines could ask and no keys are set, or it cannot listen there. RunError: a run cannot be
    served, or the database cannot be used.
    """
    keys = _keys(os.environ)
    if host not in LOOPBACK and not keys:
        raise UsageError(
            f"--host is {host}, and no keys are set; expected RECSYS_READER_KEYS, RECSYS_WRITER_KEYS and "
            "RECSYS_ADMIN_KEYS in the environment, since anybody could ask; set them, or listen at 127.0.0.1"
        )
    runs = [find_run(name) for name in dict.fromkeys(run_names)]
    with _listen(host, port) as listening, closing(Store.open(database_url(runs[0], database))) as store:
        service = Service(runs, store, most_waiting=limits.most_waiting, deadline_s=limits.deadline_s)
        try:
            address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
            about = service.about()["data"]
            talk.print(
                f"serving {runs[0].name} on {address} ({about['n_users']:,} customers, {about['n_items']:,} items, "
                f"purchases until {about['last_date']}); Ctrl-C stops it"
            )
            for note in service.notes:
                talk.print(note, markup=False)
            if opens_browser:  # once the socket listens, which it does by now: the first answer waits in it
                threading.Timer(0.5, webbrowser.open, [address]).start()
            gc.collect()
            gc.freeze()  # else each full collection goes over all that was loaded, while everybody waits
            _answer(build_app(service, keys, limits.rate), listening)
        finally:
            gc.unfreeze()
            service.close()


def _answer(app: ASGIApp, listening: socket.socket) -> None:
    """Answer requests until told to stop."""
    config = uvicorn.Config(
        app,
        http="httptools",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_S,
        timeout_keep_alive=30,
    )
    for each in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again once it has ended: then the database
        signal.signal(each, lambda *_: None)  # would not be closed, and who stops it would read of an error
    sys.setswitchinterval(0.0005)  # by default the model's thread waits 5 ms for each turn while answers are sent
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; a UsageError says what is in the way, before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)  # now: of two that start at once the second is refused here
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
