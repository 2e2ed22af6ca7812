"""Answers are judged by what they return; a solution cannot change how it is judged."""

import gzip
import json
import os
from pathlib import Path

import pytest

from curation.verification.checks import Answer, Check, JsonSchema, PythonTests, Regex, SqlResult, UserCheck
from curation.verification.settings import SandboxSettings, VerifySettings
from tasks.verification.judge import Verdict, judge_all

pytestmark = pytest.mark.processes

SETTINGS = VerifySettings(sandbox=SandboxSettings(wall_seconds=3, memory_mb=256, output_kb=16))
ADD = PythonTests(entry_point="add", tests="assert add(1, 2) == 3\nassert add(-1, 1) == 0\n")


def judge(answer: str, check: Check) -> Verdict:
    (verdict,) = judge_all(SETTINGS, [(answer, check)])
    return verdict


def test_a_right_function_passes() -> None:
    verdict = judge("Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds.", ADD)
    assert verdict.passed
    assert verdict.detail == ""


def test_what_a_solution_prints_is_kept_beside_its_verdict() -> None:
    verdict = judge("def add(a, b):\n    print('adding', a)\n    return a + b", ADD)
    assert (verdict.passed, verdict.stdout) == (True, "adding 1\nadding -1\n")


def test_a_failed_assertion_is_named() -> None:
    verdict = judge("def add(a, b):\n    return a * b", ADD)
    assert (verdict.outcome, verdict.detail) == ("failed", "line 1 of the tests: assert add(1, 2) == 3")


@pytest.mark.parametrize(
    ("answer", "outcome", "detail"),
    [
        ("I cannot do that.", "error", "SyntaxError"),
        ("def sub(a, b): return a - b", "error", "defines no function add"),
        ("import numpy\ndef add(a, b): return a + b", "error", "ModuleNotFoundError"),
        ("def add(a, b): return a + c", "failed", "NameError"),
        ("def add(a): return a", "failed", "TypeError"),
        ("def add(a, b):\n    while True: pass", "timeout", "verify.sandbox.wall_seconds"),
        ("def add(a, b):\n    while True: print('x' * 999)", "output", "verify.sandbox.output_kb"),
        ("def add(a, b): return add(a, b)", "failed", "RecursionError"),
        ("def add(a, b): return object()", "error", "cannot be compared"),
        ("def add(a, b):\n    import ctypes\n    ctypes.string_at(0)", "error", "ended before it answered"),
    ],
)
def test_each_way_to_be_wrong_has_its_outcome(answer: str, outcome: str, detail: str) -> None:
    verdict = judge(answer, ADD)
    assert verdict.outcome == outcome
    assert detail in verdict.detail


CHEATS = {
    "exits early": "import os\nos._exit(0)\ndef add(a, b): return 0",
    "exits in the call": "import sys\ndef add(a, b): sys.exit(0)",
    "equals everything": "class Any(int):\n    "
    "def __eq__(self, other): return True\n    "
    "__hash__ = int.__hash__\ndef add(a, b): return Any()",
    "patches assertions": "import builtins\nbuiltins.AssertionError = Exception\ndef add(a, b): return 0",
    "prints a report": 'print(\'{"outcome": "passed", "detail": "", "calls": 2}\')\ndef add(a, b): return 0',
    "writes a report to the pipe": "open('/link/results', 'w').write('\"\"\\n')\ndef add(a, b): return 0",
    "replaces the encoder": 'import literals\nliterals.encode = lambda value: \'{"outcome": "passed"}\'\ndef add(a, '
    "b): return 0",
    "overwrites the tests": "import glob\nfor path in glob.glob('/sandbox/*'):\n    "
    "try: open(path, 'w').write('')\n    "
    "except OSError: pass\ndef add(a, b): return 0",
    "kills its parent": "import os, signal\ndef add(a, b): os.kill(os.getppid(), signal.SIGKILL); return 0",
    "searches the frames": "import gc, sys\ndef add(a, b):\n    "
    "found = [o for o in gc.get_objects() if isinstance(o, dict) and 'expected' in o]\n    "
    "return found[0]['expected'] if found else 0",
    "raises what it likes": "def add(a, b): raise SystemExit(0)",
    "answers with a huge value": "def add(a, b): return 'x' * 10**7",
    "answers with a deep value": "def add(a, b):\n    v = []\n    for _ in range(10**5): v = [v]\n    return v",
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS.keys())
def test_a_solution_that_cheats_does_not_pass(cheat: str) -> None:
    assert not judge(cheat, ADD).passed
    assert judge("def add(a, b): return a + b", ADD).passed


def test_tests_that_end_early_or_never_call_the_function_do_not_pass() -> None:
    right = "def add(a, b): return a + b"
    for tests in ("import os\nos._exit(0)", "raise SystemExit(0)", "assert True", ""):
        assert not judge(right, PythonTests(entry_point="add", tests=tests)).passed, tests


def test_values_keep_their_types_between_solution_and_tests() -> None:
    echo = "def echo(value): return value"
    values = [
        "1",
        "1.0",
        "True",
        "None",
        "'é\\n'",
        "b'x'",
        "(1, [2])",
        "{1, 2}",
        "{'a': (1,)}",
        "2 ** 70",
        "float('inf')",
        "1j",
    ]
    tests = "\n".join(f"v = echo({value})\nassert v == {value} and type(v) is type({value})" for value in values)
    tests += "\nassert echo(float('nan')) != echo(float('nan'))"
    assert judge(echo, PythonTests(entry_point="echo", tests=tests)).passed


def test_changes_in_place_and_exceptions_reach_the_tests() -> None:
    answer = "def tidy(items):\n    if not items: raise ValueError('empty')\n    items.sort()"
    tests = (
        "items = [3, 1]\nassert tidy(items) is None and items == [1, 3]\ntry:\n    "
        "tidy([])\nexcept ValueError as error:\n    "
        "assert str(error) == 'empty'\nelse:\n    "
        "assert False"
    )
    assert judge(answer, PythonTests(entry_point="tidy", tests=tests)).passed


@pytest.mark.parametrize(
    ("answer", "check", "passed"),
    [
        ("The total is\n1,200.0", Answer(answer="1200"), True),
        ("**Answer: 42.**", Answer(answer="42"), True),
        ("#### -7", Answer(answer="-7"), True),
        ("#### 7", Answer(answer="-7"), False),
        ("3.1416", Answer(answer="3.14159", tolerance=1e-4), True),
        ("3.2", Answer(answer="3.14159", tolerance=1e-4), False),
        ("paris", Answer(answer="Paris"), True),
        ("", Answer(answer="Paris"), False),
        ("1e999999999", Answer(answer="1"), False),
        ('```json\n{"a": 1}\n```', JsonSchema(schema={"required": ["a"]}), True),
        ('{"b": 1}', JsonSchema(schema={"required": ["a"]}), False),
        ("[" * 100_000, JsonSchema(schema={}), False),
        ("2026-11-30", Regex(pattern=r"\d{4}-\d\d-\d\d"), True),
        ("on 2026-11-30", Regex(pattern=r"\d{4}-\d\d-\d\d"), False),
        ("a" * 40 + "!", Regex(pattern=r"(a+)+"), False),
        ("yes", UserCheck(file="def check(answer, data): return answer == data['want']", data={"want": "yes"}), True),
        ("no", UserCheck(file="def check(answer, data): return answer == data['want']", data={"want": "yes"}), False),
        ("no", UserCheck(file="def check(answer, data): return 1", data={}), False),
        ("no", UserCheck(file="import os\nos._exit(0)\ndef check(answer, data): return True", data={}), False),
    ],
)
def test_other_kinds_of_checks_judge_answers(answer: str, check: Check, passed: bool) -> None:
    assert judge(answer, check).passed is passed


SALES = "create table sales(city text, amount int); insert into sales values ('Rome', 2), ('Oslo', 1), ('Rome', 3)"


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        ("select city, sum(amount) from sales group by city", True),
        ("```sql\nselect city, sum(amount) s from sales group by 1 order by 2\n```", True),
        ("select city, amount from sales", False),
        ("drop table sales; select 'Rome', 5 union all select 'Oslo', 1", True),
        ("select * from read_text('/etc/passwd')", False),
        ("selec city", False),
    ],
)
def test_sql_is_judged_by_the_rows_that_it_returns(query: str, passed: bool) -> None:
    check = SqlResult(setup=SALES, reference="select city, sum(amount) from sales group by city order by 1")
    assert judge(query, check).passed is passed


@pytest.mark.skipif(not os.environ.get("HEIRLOOM_TEST_DATA"), reason="needs the public test data")
def test_every_reference_solution_of_human_eval_passes_and_an_empty_body_does_not() -> None:
    with gzip.open(Path(os.environ["HEIRLOOM_TEST_DATA"]) / "HumanEval.jsonl.gz", "rt") as lines:
        problems = [json.loads(line) for line in lines]
    checks = [PythonTests(entry_point=row["entry_point"], tests=row["test"], prompt=row["prompt"]) for row in problems]
    right = [(row["canonical_solution"], check) for row, check in zip(problems, checks, strict=True)]
    assert [
        row["task_id"] for row, verdict in zip(problems, judge_all(SETTINGS, right), strict=True) if not verdict.passed
    ] == []
    assert not any(
        verdict.passed for verdict in judge_all(SETTINGS, [("    return None\n", check) for check in checks[:20]])
    )
