"""`heirloom serve` without a server. tests/deploy covers it with one."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import prefect_free_environment
from tests.support.paths import ROOT


def serve(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = prefect_free_environment() | {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows", "serve", *words]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_without_a_server_the_error_explains_how_to_start_one(tmp_path: Path) -> None:
    found = serve(tmp_path, "ngram")
    assert found.returncode == 2
    assert "prefect server start" in found.stderr and "PREFECT_API_URL" in found.stderr
    assert "Traceback" not in found.stderr


def test_an_unknown_recipe_is_refused_before_flows_are_served(tmp_path: Path) -> None:
    found = serve(tmp_path, "nothing-like-it")
    assert found.returncode == 2
    assert "There is no recipe `nothing-like-it`." in found.stderr
