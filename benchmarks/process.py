"""The project's commands as processes of their own, as a person would start them."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

from recsys.client import Client
from recsys.errors import RunError

ROOT = Path(__file__).parents[1]
_START_S: Final = 120


def run(arguments: list[str], folder: Path, threads: str) -> str:
    """Run a Python module of the project in ``folder`` on so many threads and return what it printed on stdout.

    Raises:
        RunError: it failed; what it said stands above.
    """
    environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise RunError(
            f"`python -m {' '.join(arguments)}` ended with code {done.returncode}; its own words stand above"
        )
    return done.stdout.decode()


class Server:
    """``recsys serve`` of the run ``hm`` as a process of its own, over a database of its own; killed in the end."""

    def __init__(self, folder: Path, port: int, database: Path) -> None:
        """Start it in ``folder``, and wait until it answers; RunError where it does not."""
        options = ["--run", "hm", "--port", str(port), "--database", f"sqlite:///{database}", "--rate", "1e6"]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recsys.cli", "serve", *options],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(ROOT)},
        )
        self.port, self.client, began = port, Client(f"http://127.0.0.1:{port}", timeout=60), time.perf_counter()
        while not self.client.ready():
            if self.process.poll() is not None or time.perf_counter() > began + _START_S:
                self.kill()
                raise RunError(f"the server did not answer within {_START_S} s; its own words stand above")
            time.sleep(0.05)
        self.start_s = time.perf_counter() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def memory_mb(self, name: str = "VmRSS") -> float:
        """Return the memory that the process holds, or with ``VmHWM`` the most it held, in 10**6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition(f"{name}:")[2].split()[0]) * 1024 / 1e6

    def kill(self) -> None:
        """End it at once, as a failing machine would."""
        self.process.kill()
        self.process.wait()
        self.client.close()
