"""Standard streams that are closed or full: what could not be printed is no success."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.processes


def _heirloom(arguments: str, redirection: str) -> "subprocess.CompletedProcess[str]":
    """Run `heirloom query ...` in a shell with redirections."""
    command = f"{sys.executable} -m flows {arguments} {redirection}"
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_list_that_cannot_be_printed_is_an_error() -> None:
    ended = _heirloom("query", ">&-")
    assert ended.returncode == 1
    assert ended.stderr == "heirloom: The output of this command was not written: standard output is closed.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_an_error() -> None:
    ended = _heirloom("query", "> /dev/full")
    assert ended.returncode == 1
    assert ended.stderr == "heirloom: The output of this command was not written: No space left on device.\n"


def test_a_reader_that_stops_early_is_no_error_message() -> None:
    ended = _heirloom("query", "| true; echo ${PIPESTATUS[0]}")
    assert ended.stderr == ""
    assert ended.stdout.strip() in ("0", "141")


def test_closed_streams_do_not_change_the_exit_code_of_a_mistake() -> None:
    assert _heirloom("query why", ">&- 2>&-").returncode == 2
    ended = _heirloom("query why", ">&-")
    assert ended.returncode == 2
    assert ended.stderr.startswith("heirloom: There is no named query")
