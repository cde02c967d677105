"""Pin the installed versions of our direct dependencies and tools: ``python -m tools.requirements``.

Only what pyproject.toml names is pinned, so that the file installs on every platform and every Python from 3.11 on.
"""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

EXTRAS = ("demo", "dev", "docs", "hm", "spark", "sql", "text")


def direct_names(pyproject: Path) -> list[str]:
    """Return what the project and its extras :data:`EXTRAS` ask for, sorted: names, some with ``; where`` behind."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(name for extra in EXTRAS for name in project["optional-dependencies"][extra])]
    named = {re.split(r"[\[<>=!~; ]", name)[0] + "".join(name.partition(";")[1:]) for name in wanted}
    return sorted(named, key=str.lower)


def pinned(names: list[str]) -> str:
    """Return a requirements file of ``names`` at their installed versions, without local parts such as ``+cpu``."""
    parted = [name.partition(";") for name in names]
    lines = [f"{name}=={version(name).partition('+')[0]}{mark}{where}" for name, mark, where in parted]
    return "\n".join(["# Written by `make requirements`.", *lines, ""])


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    (root / "requirements.txt").write_text(pinned(direct_names(root / "pyproject.toml")), encoding="utf-8")
