"""Load a solution and answer calls of its function, which the grader sends from another sandbox.

Nothing that the solution does in this process reaches the tests: they see the literals that its function returns.

Usage: solution.py CALLS RESULTS ENTRY_POINT, the first two being named pipes.
"""

import sys
from pathlib import Path

import literals


def main(calls_path, results_path, entry_point):
    """Answer one call per line until the grader closes its pipe."""
    # Opened in the order of the grader, since opening a pipe waits for its other end.
    with open(calls_path, encoding="ascii") as calls, open(results_path, "w", encoding="ascii") as results:
        reply = _load(entry_point)
        results.write(literals.encode(reply if isinstance(reply, str) else "") + "\n")
        results.flush()
        if isinstance(reply, str):
            return
        for line in calls:
            arguments, keywords = literals.decode(line)
            results.write(_call(reply, arguments, keywords) + "\n")
            results.flush()


def _load(entry_point):
    """Return the function, or the reason why there is none."""
    source = Path(__file__).with_name("answer.py").read_text(encoding="utf-8")
    namespace = {"__name__": "answer", "__builtins__": __builtins__}
    try:
        exec(compile(source, "answer.py", "exec"), namespace)
    except SyntaxError as error:
        return f"SyntaxError: {error}"
    except BaseException as error:  # a solution may raise SystemExit
        return f"{type(error).__name__}: {_text(error)}"
    function = namespace.get(entry_point)
    if not callable(function):
        return f"NameError: the answer defines no function {entry_point}"
    return function


def _call(function, arguments, keywords):
    """Return the encoded outcome: (kind, value, arguments after the call)."""
    try:
        value = function(*arguments, **keywords)
        if hasattr(value, "__next__"):
            value = list(value)
        return literals.encode(("returned", value, arguments, keywords))
    except literals.NotALiteralError as error:
        return literals.encode(("unsupported", f"it returns a value that cannot be compared: {error}", [], {}))
    except RecursionError:
        return literals.encode(("raised", ("RecursionError", "maximum recursion depth exceeded"), [], {}))
    except BaseException as error:
        return literals.encode(("raised", (type(error).__name__, _text(error)), [], {}))


def _text(error):
    try:
        return str(error)[:500]
    except BaseException:
        return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
