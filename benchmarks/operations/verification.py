"""Judge programs in the sandbox: what passes, what gets out, what it costs, and what a known verifier is worth.

Needs HumanEval.jsonl.gz in the folder that HEIRLOOM_TEST_DATA names.
"""

import gzip
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figures import Figure, short
from curation.verification.accounting import account_for_verifier
from curation.verification.checks import Check, PythonTests
from curation.verification.settings import SandboxSettings, VerifySettings
from heirloom.errors import HeirloomError
from tasks.verification.judge import Verdict, judge_all

_SETTINGS = VerifySettings(sandbox=SandboxSettings(wall_seconds=5))
_WRONG = "    return None\n"
_ADD = PythonTests(entry_point="add", tests="assert add(1, 2) == 3\nassert add(-1, 1) == 0\n")
_CHEATS = (
    "import os\nos._exit(0)\ndef add(a, b): return 0",
    "class Any:\n    def __eq__(self, other): return True\ndef add(a, b): return Any()",
    "import builtins\nbuiltins.AssertionError = Exception\ndef add(a, b): return 0",
    'print(\'{"outcome": "passed", "detail": ""}\')\ndef add(a, b): return 0',
    "open('/link/results', 'w').write('\"\"\\n')\ndef add(a, b): return 0",
    'import literals\nliterals.encode = lambda value: \'{"outcome": "passed"}\'\ndef add(a, b): return 0',
    "import os, signal\ndef add(a, b): os.kill(os.getppid(), signal.SIGKILL); return 0",
    "import os\nwhile True: os.fork()",
    "x = [bytearray(10**7) for _ in range(10**4)]",
    "while True: print('x' * 999)",
    "import ctypes\nctypes.string_at(0)",
)
"""Answers that pass the tests of `add` only if they get around them."""


def measure() -> list[Figure]:
    """Return the figures; raises HeirloomError without the problems."""
    problems = _problems()
    started = time.monotonic()
    right = _judge([(solution, check) for solution, check in problems])
    seconds = time.monotonic() - started
    wrong = _judge([(_WRONG, check) for _, check in problems])
    cheats = _judge([(cheat, _ADD) for cheat in _CHEATS])
    remaining = [process for process in psutil.Process().children(recursive=True) if process.name() == "bwrap"]
    num_right = sum(verdict.passed for verdict in right)
    num_wrong_passed = sum(verdict.passed for verdict in wrong)
    num_cheats_passed = sum(verdict.passed for verdict in cheats)
    return [
        Figure(
            "HumanEval: reference solutions that pass",
            num_right,
            "problems",
            f"= {len(problems)}",
            num_right == len(problems),
        ),
        Figure("HumanEval: empty bodies that pass", num_wrong_passed, "problems", "= 0", num_wrong_passed == 0),
        Figure("answers that cheat and pass", num_cheats_passed, f"of {len(cheats)}", "= 0", num_cheats_passed == 0),
        Figure("processes of the sandbox left behind", len(remaining), "processes", "= 0", not remaining),
        Figure("solutions judged with their tests, two at a time", short(len(problems) / seconds), "a second"),
        *_planted(problems),
        _interval_coverage(),
    ]


def _judge(pairs: Sequence[tuple[str, Check]]) -> list[Verdict]:
    return list(judge_all(_SETTINGS, pairs))


def _planted(problems: Sequence[tuple[str, PythonTests]]) -> list[Figure]:
    """Plant a known share of wrong solutions, and compare what is kept with it."""
    is_right = np.random.default_rng(0).random(len(problems)) < 0.7
    pairs = [
        (solution if right else _WRONG, check) for right, (solution, check) in zip(is_right, problems, strict=True)
    ]
    kept = [verdict.passed for verdict in _judge(pairs)]
    account = account_for_verifier(kept, is_right.tolist())
    phi, psi = account.phi.value, account.psi.value
    return [
        Figure("planted mistakes: share of right solutions kept (phi)", short(phi), "share", "= 1", phi == 1),
        Figure("planted mistakes: share of wrong solutions kept (psi)", short(psi), "share", "<= 0.02", psi <= 0.02),
    ]


def _interval_coverage() -> Figure:
    """Return how often the intervals of a verifier with known phi and psi contain both."""
    rng = np.random.default_rng(0)
    num_samples = 1000
    covered = 0
    for _ in range(num_samples):
        right = rng.random(400) < 0.6
        kept = np.where(right, rng.random(400) < 0.9, rng.random(400) < 0.3)
        account = account_for_verifier(kept.tolist(), right.tolist())
        covered += account.phi.low <= 0.9 <= account.phi.high and account.psi.low <= 0.3 <= account.psi.high
    share = covered / num_samples
    return Figure(
        "accounting: 95 % intervals that contain both phi = .9 and psi = .3", share, "share", ">= 0.88", share >= 0.88
    )


def _problems() -> list[tuple[str, PythonTests]]:
    """Reference solutions of HumanEval with their checks."""
    folder = os.environ.get("HEIRLOOM_TEST_DATA", "")
    path = Path(folder) / "HumanEval.jsonl.gz"
    if not folder or not path.exists():
        raise HeirloomError("HumanEval.jsonl.gz is not there; set HEIRLOOM_TEST_DATA to the folder that contains it")
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        (
            row["canonical_solution"],
            PythonTests(entry_point=row["entry_point"], tests=row["test"], prompt=row["prompt"]),
        )
        for row in rows
    ]
