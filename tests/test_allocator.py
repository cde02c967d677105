"""Freed memory stays in the process once asked for."""

import subprocess
import sys

import pytest

_KEPT_BYTES = """
import sys, numpy as np
from pathlib import Path
from recsys.allocator import keep_freed_memory

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
