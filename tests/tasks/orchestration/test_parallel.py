import os
import subprocess
import sys
from operator import neg
from pathlib import Path

import pytest

from tasks.orchestration.parallel import parallel_map
from tests.support.paths import ROOT

pytestmark = pytest.mark.processes


def _process_id(_: int) -> int:
    return os.getpid()


def _fail_at_7(number: int) -> int:
    if number == 7:
        raise ValueError(f"failed at {number}")
    return number


def test_results_are_in_order_from_any_number_of_processes() -> None:
    assert list(parallel_map(neg, range(40))) == [-number for number in range(40)]


def test_a_few_items_start_no_process() -> None:
    assert set(parallel_map(_process_id, range(3))) == {os.getpid()}
    assert len(set(parallel_map(_process_id, range(10)))) >= 2


def test_an_error_in_a_worker_is_raised_in_the_caller() -> None:
    results = parallel_map(_fail_at_7, range(20))
    with pytest.raises(ValueError, match="failed at 7"):
        list(results)


def test_workers_do_not_run_a_script_without_a_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "flat.py"
    script.write_text(
        "from operator import neg\nfrom tasks.orchestration.parallel import parallel_map\n"
        "print('started')\nprint(sum(parallel_map(neg, range(20))))\n"
    )
    completed = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.split() == ["started", "-190"]
