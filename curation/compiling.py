"""How kernels are compiled: by numba, without the interpreter lock, cached on disk where that can be done.

Plain threads run them on all cores. numba's own threads are not used: kernels with `parallel=True` are not cached, and the
default pool may not be entered from two threads. The first call on a machine compiles (seconds); the machine code is
kept beside the source, or in the user's cache folder, or, where neither can be written, for this process alone.
"""

from collections.abc import Callable
from typing import TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """The function, compiled at its first call."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write its cache to
        return njit(nogil=True)(function)
