"""Parsing of Python source in processes of several threads.

Before Python 3.11.10 two threads cannot build syntax trees at once: when the garbage collector runs inside `ast.parse`,
another thread may enter it, and the first ends in `SystemError: AST constructor recursion depth mismatch`. So the
collector is off while a tree is built, by one thread at a time, since the first to end switches it on again.
"""

import ast
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def parse_module(source: str | bytes) -> ast.Module:
    """Return the syntax tree of a module.

    Raises:
        SyntaxError: the source is not Python.
        ValueError: the source contains null bytes.
    """
    with _collector_off():
        return ast.parse(source)


def parse_literal(source: str) -> object:
    """Return the value of a Python literal.

    Raises:
        SyntaxError: the source is not Python.
        ValueError: the source is not a literal, or contains null bytes.
        MemoryError: the literal is nested too deeply, as with RecursionError.
    """
    with _collector_off():
        return ast.literal_eval(source)


_collector_lock = threading.Lock()


@contextmanager
def _collector_off() -> Iterator[None]:
    with _collector_lock:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()
