import os
import subprocess
import sys
from operator import neg
from pathlib import Path

import pytest

from tasks.orchestration.parallel import parallel_map
from tests.support.paths import ROOT


def _process(_: int) -> int:
    return os.getpid()


def _fail(number: int) -> int:
    raise ValueError(f"{number} is wrong")


def test_answers_come_in_order_whoever_gives_them() -> None:
    assert list(parallel_map(neg, range(40))) == [-number for number in range(40)]


def test_few_items_start_no_process() -> None:
    assert set(parallel_map(_process, range(3))) == {os.getpid()}
    assert len(set(parallel_map(_process, range(10)))) >= 2


def test_a_mistake_in_a_worker_is_the_callers() -> None:
    answers = parallel_map(_at_seven, range(20))
    with pytest.raises(ValueError, match="7 is wrong"):
        list(answers)


def _at_seven(number: int) -> int:
    return _fail(number) if number == 7 else number


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "flat.py"
    script.write_text(
        "from operator import neg\nfrom tasks.orchestration.parallel import parallel_map\n"
        "print('begun')\nprint(sum(parallel_map(neg, range(20))))\n"
    )
    found = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["begun", "-190"]
