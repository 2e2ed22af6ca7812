"""Run the user's own evaluation functions, `evaluate.custom_metrics`.

A function is named as `module:function`, or as `file.py:function` relative to the working directory. The name of its
first parameter selects its input: `texts`, a list of strings, or `model`, the folder of the model. It returns a dict of
numbers; the entry `accuracy` becomes the metric `custom.accuracy`.
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

InputKind = Literal["texts", "model"]


def source_hashes(paths: Sequence[str]) -> dict[str, str]:
    """Return a digest of the source file of each function, so that an evaluation is repeated after the file changes."""
    return {path: METRICS.source_hash(path) for path in paths}


def run_custom_metrics(
    paths: Sequence[str], input_kind: InputKind, data: Sequence[str] | Path, num_texts: int
) -> list[Measured]:
    """Run the functions whose input is of one kind, and return their numbers as metrics.

    Args:
        paths: `evaluate.custom_metrics`; functions with the other kind of input are skipped.
        input_kind: Name of the first parameter of the functions to run.
        data: The texts, or the folder of the model.
        num_texts: Number of texts, which the metrics record.

    Raises:
        HeirloomError: there is no such function, its first parameter has another name, it failed, or it does not return
            a dict of finite numbers.
    """
    metrics = []
    for path in paths:
        function = METRICS.load(path)
        if _input_kind(path, function) != input_kind:
            continue
        try:
            returned = function(data if isinstance(data, Path) else list(data))
        except Exception as error:
            raise HeirloomError(f"evaluate.custom_metrics {path} failed: {type(error).__name__}: {error}") from error
        for name, value in _validate_numbers(path, returned).items():
            metrics.append(Measured(f"custom.{name}", value, None, None, num_texts))
    return metrics


def _input_kind(path: str, function: Callable[..., Any]) -> str:
    """Return the name of the first parameter."""
    name = next(iter(inspect.signature(function).parameters), "")
    if name not in ("texts", "model"):
        raise HeirloomError(
            f"evaluate.custom_metrics {path}: the first parameter is named {name!r}. Name it texts or model."
        )
    return name


def _validate_numbers(path: str, returned: object) -> dict[str, float]:
    if not isinstance(returned, Mapping):
        raise HeirloomError(
            f"evaluate.custom_metrics {path} returned {type(returned).__name__}. Return a dict of numbers by name."
        )
    for name, value in returned.items():
        if not isinstance(name, str) or not isinstance(value, Real) or not math.isfinite(value):
            raise HeirloomError(
                f"evaluate.custom_metrics {path} returned {name!r}: {value!r}. Every value must be a finite number."
            )
    return {name: float(value) for name, value in returned.items()}
