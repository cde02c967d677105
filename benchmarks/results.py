"""Keeps ``benchmarks/RESULTS.md``: one marked section a benchmark, replaced whenever that benchmark runs."""

import os
import platform
from pathlib import Path

from recsys.storage import write_text

RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = "# Results\n\nEach section is written by the command that it names; figures are never typed by hand.\n"


def write_section(name: str, markdown: str, path: Path = RESULTS) -> None:
    """Put ``markdown`` into the section ``<!-- name -->`` of ``path``, in place of what stood there."""
    text = path.read_text(encoding="utf-8") if path.is_file() else _HEAD
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    section = f"{begin}\n{markdown.strip()}\n{end}"
    before, found, rest = text.partition(begin)
    if found:
        _, _, after = rest.partition(end)
        write_text(path, before + section + after)
    else:
        write_text(path, f"{text.rstrip()}\n\n{section}\n")


def machine() -> str:
    """Return the machine in words: processor kind and number of cores."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
