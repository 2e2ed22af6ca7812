"""Apply one check that is not about a Python function: a regular expression, SQL, or a function of the user's.

Usage: check.py KIND. Reads `answer.txt` and `check.json` beside it; the last line of the standard output is a JSON
report.
"""

import collections
import json
import os
import re
import sys
from pathlib import Path

_REPORT = os.dup(1)


def main(kind):
    """Check the answer, and print the report."""
    folder = Path(__file__).parent
    answer, check = (folder / "answer.txt").read_text(encoding="utf-8"), json.loads((folder / "check.json").read_text())
    try:
        passed, detail = _CHECKS[kind](answer, check)
    except BaseException as error:  # a check may raise SystemExit
        passed, detail = False, f"{type(error).__name__}: {error}"
    report = {"outcome": "passed" if passed else "failed", "detail": detail[:2000]}
    os.write(_REPORT, ("\n" + json.dumps(report)).encode())


def _regex(answer, check):
    passed = re.fullmatch(check["pattern"], answer.strip(), re.DOTALL) is not None
    return passed, "" if passed else "the pattern does not match the whole answer"


def _sql(answer, check):
    sys.path.append("/packages")
    import duckdb

    connection = duckdb.connect(
        ":memory:", config={"enable_external_access": False, "threads": 1, "memory_limit": "256MB"}
    )
    if check["setup"]:
        connection.execute(check["setup"])
    # The answer sees a copy of the tables: it cannot change what the reference query reads.
    expected = _rows(connection.execute(check["reference"]))
    given = _rows(connection.execute(answer))
    if given == expected:
        return True, ""
    return (
        False,
        f"the result has {sum(given.values())} rows that differ from the {sum(expected.values())} of the reference",
    )


def _rows(result):
    return collections.Counter(repr(row) for row in result.fetchall())


def _user(answer, check):
    namespace = {"__name__": "check"}
    exec(compile(check["file"], "check.py", "exec"), namespace)
    passed = namespace["check"](answer, check["data"])
    if not isinstance(passed, bool):
        raise TypeError(f"check returned {type(passed).__name__}; return True or False")
    return passed, "" if passed else "the check returned False"


_CHECKS = {"regex": _regex, "sql": _sql, "user": _user}

if __name__ == "__main__":
    main(sys.argv[1])
