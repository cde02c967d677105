"""How the C library hands out memory: set once by the verbs that compute with large tensors."""

import ctypes
import os
import sys
from pathlib import Path

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process reuse the memory of freed tensors; return False on systems other than Linux with glibc.

    By default glibc maps every block above 32 MiB anew, so each step of training pays for the kernel's zeroing of the
    same hundreds of MB. Kept, the peak is up to a third higher (``docs/decisions.md`` has what it buys).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


class KeptMemory:
    """Bounds what :func:`keep_freed_memory` keeps: steps of unlike sizes leave holes that nothing fits into."""

    def __init__(self, most_bytes: int = 3 * 2**30) -> None:
        self.most_bytes, self.floor_bytes = most_bytes, resident_bytes()

    def bound(self) -> bool:
        """Give freed memory back if the process has grown by ``most_bytes``; return whether it did."""
        has_grown = resident_bytes() > self.floor_bytes + self.most_bytes
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if has_grown else None
        if trim is None:
            return False
        trim(0)
        self.floor_bytes = resident_bytes()
        return True


def resident_bytes() -> int:
    """Return how much memory the process occupies; 0 on systems other than Linux."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
