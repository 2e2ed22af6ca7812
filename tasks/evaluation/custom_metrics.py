"""A user's own evaluation: a Python function by its import path, given texts or a model's folder, returning numbers by name.

`module:function`, or `file.py:function` from the working directory. What it is given follows from the name of
its first parameter: `texts`, a list of strings, or `model`, the folder of the model. Of what it returns, `accuracy` is the metric `custom.accuracy`.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from curation.metrics.settings import Measured
from curation.user_code import METRICS
from heirloom.errors import HeirloomError

Given = Literal["texts", "model"]


def source_hashes(paths: Sequence[str]) -> dict[str, str]:
    """Digest of the source of each function's file, so that another evaluation is not taken for the same one."""
    return {path: METRICS.source_hash(path) for path in paths}


def run_custom_metrics(paths: Sequence[str], given: Given, what: Sequence[str] | Path, records: int) -> list[Measured]:
    """What the functions that want `given` say of it; `records` is how many texts there are.

    Raises:
        HeirloomError: there is no such function, it wants something else, it failed, or it returns no finite numbers by name.
    """
    found = []
    for path in paths:
        function = METRICS.load(path)
        if _wants(path, function) != given:
            continue
        try:
            said = function(list(what) if not isinstance(what, Path) else what)
        except Exception as error:
            raise HeirloomError(f"evaluate.custom_metrics {path} failed: {type(error).__name__}: {error}") from error
        found += [
            Measured(f"custom.{name}", value, None, None, records) for name, value in _numbers(path, said).items()
        ]
    return found


def _wants(path: str, function: Callable[..., Any]) -> str:
    first = next(iter(inspect.signature(function).parameters), "")
    if first not in ("texts", "model"):
        raise HeirloomError(f"evaluate.custom_metrics {path}: its first parameter is {first!r}; name it texts or model")
    return first


def _numbers(path: str, said: object) -> dict[str, float]:
    if not isinstance(said, Mapping):
        raise HeirloomError(
            f"evaluate.custom_metrics {path} returned {type(said).__name__}; return a dict of numbers by name"
        )
    for name, value in said.items():
        if not isinstance(name, str) or not isinstance(value, Real) or not math.isfinite(value):
            raise HeirloomError(
                f"evaluate.custom_metrics {path} returned {name!r}: {value!r}; every value must be a finite number"
            )
    return {name: float(value) for name, value in said.items()}
