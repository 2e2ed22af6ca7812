"""How kernels are compiled: by numba, without the interpreter lock, cached on disk where that can be done.

Plain threads run them on all cores. numba's own threads are not used: kernels with `parallel=True` are not cached, and the
default pool may not be entered from two threads. The first call on a machine compiles (seconds); the machine code is
kept beside the source, or in the user's cache folder, or, where neither can be written, for this process alone.
"""

from collections.abc import Callable
from typing import TypeVar

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_Function = TypeVar("_Function", bound=Callable[..., object])


def jit(function: _Function) -> _Function:
    """The function, compiled at its first call."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write its cache to
        return njit(nogil=True)(function)


@intrinsic  # type: ignore[untyped-decorator]
def load_u64(_context, array, place):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001
    """Eight bytes from `place` on, little-endian, aligned or not."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.bitcast(builder.gep(found.data, [arguments[1]]), ir.IntType(64).as_pointer())
        loaded = builder.load(pointer)
        loaded.align = 1
        return loaded

    return types.uint64(types.Array(types.uint8, 1, "C"), types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(_context, _value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Zero bits below the lowest one of a value that is not 0."""

    def generate(_generator, builder, _signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate
