"""Run tests against a solution that lives in another sandbox.

The entry point that the tests call is a proxy: it sends the arguments, and returns literals. So a solution cannot
change what an assertion means, read what is expected, or end the tests early.

Usage: grader.py CALLS RESULTS ENTRY_POINT. The last line of the standard output is a JSON report.
"""

import builtins
import json
import os
import sys
import traceback
from pathlib import Path

import literals

_REPORT = os.dup(1)


class SolutionError(Exception):
    """The solution cannot be loaded, or ended."""


class Proxy:
    """A function that calls the solution."""

    def __init__(self, calls, results, name):
        self._calls, self._results, self.__name__ = calls, results, name
        self.num_calls = 0

    def __call__(self, *arguments, **keywords):
        self.num_calls += 1
        self._calls.write(literals.encode((list(arguments), keywords)) + "\n")
        self._calls.flush()
        kind, value, after, after_keywords = _receive(self._results)
        if kind == "returned":
            # Changes of a list or dictionary in place are part of what a function does.
            for before, now in zip(arguments, after, strict=True):
                _assign(before, now)
            for name, before in keywords.items():
                _assign(before, after_keywords[name])
            return value
        if kind == "raised":
            name, message = value
            error_class = getattr(builtins, name, None)
            if isinstance(error_class, type) and issubclass(error_class, Exception):
                raise error_class(message)
            raise SolutionError(f"{name}: {message}")
        raise SolutionError(value)


def main(calls_path, results_path, entry_point):
    """Run the tests, and print the report."""
    with open(calls_path, "w", encoding="ascii") as calls, open(results_path, encoding="ascii") as results:
        proxy = Proxy(calls, results, entry_point)
        try:
            problem = _receive(results)
            if problem:
                raise SolutionError(problem)
            _run_tests(proxy, entry_point)
            outcome, detail = "passed", ""
        except AssertionError:
            outcome, detail = "failed", _where()
        except SolutionError as error:
            outcome, detail = "error", str(error)
        except BaseException as error:  # tests may raise SystemExit
            outcome, detail = "failed", f"{type(error).__name__}: {error}; {_where()}"
    if outcome == "passed" and not proxy.num_calls:
        outcome, detail = "failed", f"the tests never call {entry_point}"
    os.write(
        _REPORT, ("\n" + json.dumps({"outcome": outcome, "detail": detail[:2000], "calls": proxy.num_calls})).encode()
    )


def _receive(results):
    line = results.readline()
    if not line.endswith("\n"):
        raise SolutionError("the solution ended before it answered")
    try:
        return literals.decode(line)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise SolutionError(f"the solution answered with something else than a value: {error}") from None


def _run_tests(proxy, entry_point):
    folder = Path(__file__).parent
    namespace = {"__name__": "tests"}
    # Helper functions of the prompt, which tests may use; its entry point is then replaced.
    exec(compile((folder / "prompt.py").read_text(encoding="utf-8"), "prompt.py", "exec"), namespace)
    namespace[entry_point] = namespace["candidate"] = proxy
    exec(compile((folder / "tests.py").read_text(encoding="utf-8"), "tests.py", "exec"), namespace)
    if callable(namespace.get("check")):
        namespace["check"](proxy)


def _assign(before, now):
    if isinstance(before, (list, bytearray)) and type(now) is type(before):
        before[:] = now
    elif isinstance(before, (dict, set)) and type(now) is type(before):
        before.clear()
        before.update(now)


def _where():
    frames = [frame for frame in traceback.extract_tb(sys.exc_info()[2]) if frame.filename == "tests.py"]
    lines = (Path(__file__).parent / "tests.py").read_text(encoding="utf-8").splitlines()
    if not frames or not 0 < frames[-1].lineno <= len(lines):
        return ""
    return f"line {frames[-1].lineno} of the tests: {lines[frames[-1].lineno - 1].strip()[:300]}"


if __name__ == "__main__":
    main(*sys.argv[1:])
