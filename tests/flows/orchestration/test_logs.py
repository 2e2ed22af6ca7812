"""Log records of a command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import human_texts
from tests.support.paths import ROOT

pytestmark = pytest.mark.processes


def ingested(tmp_path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """An ingest with these global options."""
    letters = tmp_path / "letters.jsonl"
    letters.write_text("".join(json.dumps({"text": text}) + "\n" for text in human_texts(60)))
    words = ["ingest", str(letters), "--name", "letters", "--store", str(tmp_path / "store")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "HEIRLOOM"))}
    return subprocess.run(
        [sys.executable, "-m", "flows", *options, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_records_are_json_lines_on_request(tmp_path: Path) -> None:
    records = [json.loads(line) for line in ingested(tmp_path, "--log-format", "json").stderr.splitlines()]
    assert records
    for record in records:
        assert set(record) == {"time", "level", "logger", "message"}
        assert record["time"].endswith("+00:00")
    assert any("ingest took" in record["message"] for record in records)


def test_records_below_the_level_are_left_out(tmp_path: Path) -> None:
    assert ingested(tmp_path, "--log-level", "warning").stderr == ""
