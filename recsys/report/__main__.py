"""``python -m recsys.report`` is ``recsys report``."""

from recsys.console import run
from recsys.report import app

if __name__ == "__main__":
    run(app)
