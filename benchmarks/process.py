"""The project's commands as processes of their own, as a person would start them."""

import os
import subprocess
import sys
from pathlib import Path

from recsys.errors import RunError

ROOT = Path(__file__).parents[1]


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
