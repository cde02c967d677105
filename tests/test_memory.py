"""Freed memory stays in the process once asked for, within bounds."""

import subprocess
import sys

import pytest

_KEPT_BYTES = """
import sys, numpy as np
from pathlib import Path
from recsys.modeling.memory import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resident()
block = np.ones(16_000_000)
del block
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to keep memory")
def test_a_freed_block_stays_with_the_process() -> None:
    kept = {
        mode: int(subprocess.run([sys.executable, "-c", _KEPT_BYTES, mode], check=True, stdout=-1).stdout)
        for mode in ("default", "keep")
    }
    assert kept["default"] < 16e6
    assert kept["keep"] > 112e6


_PILED_UP = """
import numpy as np
from recsys.modeling.memory import KeptMemory, keep_freed_memory, resident_bytes

assert keep_freed_memory()
kept = KeptMemory(most_bytes=200_000_000)
blocks = [np.ones(1_000_000) for _ in range(40)]
assert kept.bound()  # it is all in use, and becomes the floor
assert not kept.bound()
in_use = resident_bytes()
more = [np.ones(1_000_000) for _ in range(40)]
del more
piled = resident_bytes()
assert kept.bound()
print(piled - in_use, resident_bytes() - in_use)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to keep memory")
def test_what_piles_up_beyond_the_bound_is_given_back() -> None:
    said = subprocess.run([sys.executable, "-c", _PILED_UP], check=True, stdout=-1).stdout
    piled, left = map(int, said.split())
    assert piled > 250e6
    assert left < 50e6
