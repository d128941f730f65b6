"""What the agent asks of the kernel for its own memory."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_PR_SET_THP_DISABLE: Final = 41
"""From ``linux/prctl.h``; kernels since 3.15."""


def use_small_pages() -> None:
    """No huge pages for this process and its children, from now on.

    Debian's kernels give them to whoever does not ask (``transparent_hugepage=always``): the
    heap then grows in steps of 2 MB, which took 4 MB of a board for nothing. A kernel without
    the call is left as it is.
    """
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def give_back() -> None:
    """What only the start needed goes back to the kernel; glibc keeps it otherwise."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
