"""How the C library hands out memory: set once by the verbs that compute with large tensors."""

import ctypes
import sys

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process reuse the memory of freed tensors instead of giving it back to the system after each step.

    By default glibc maps every block above 32 MiB anew and unmaps it when it is freed, so each step of training pays
    for the kernel's zeroing of the same hundreds of MB. Kept, the peak of memory is up to a third higher; what it buys
    is measured in ``docs/decisions.md``.

    Returns:
        Whether the C library took the settings; other systems than Linux with glibc stay as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
