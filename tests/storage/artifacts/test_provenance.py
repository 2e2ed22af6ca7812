import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from storage.artifacts.provenance import commit, machine, provenance, redact_arguments, versions, visible_gpus
from tests.support.paths import ROOT


def _of_a_command(*arguments: str, folder: Path = ROOT, **environment: str) -> dict[str, object]:
    program = (
        f"import sys, json; sys.path.insert(0, {str(folder)!r})\nfrom storage.artifacts.provenance import "
        "provenance\nprint(json.dumps(provenance()))"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={**os.environ, **environment},
    )
    return json.loads(completed.stdout)


def test_provenance_records_versions_machine_and_command() -> None:
    found = provenance()
    assert set(found) == {"commit", "versions", "machine", "visible_gpus", "command"}
    assert found["versions"]["python"] == platform.python_version()
    assert {"pyarrow", "duckdb", "numpy", "datasketch"} <= set(versions())
    assert machine().startswith(f"{platform.system()} {platform.machine()}, ")
    assert machine().endswith(f"{os.cpu_count()} cores")
    assert provenance() is found


def test_cards_are_those_that_are_there_and_may_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("storage.artifacts.provenance._NVIDIA_GPUS", tmp_path / "gpus")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == 0
    for name in ("a", "b", "c"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    assert visible_gpus() == 3
    for named, may in {"0,2": 2, "1": 1, "": 0, "-1": 0, "0,-1,1": 1, "0,1,2,3,4": 3}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert visible_gpus() == may, named


def test_it_can_be_stored_as_json() -> None:
    assert json.loads(json.dumps(provenance())) == provenance()


@pytest.mark.processes
def test_the_command_is_kept_as_it_was_typed() -> None:
    found = _of_a_command("run", "anchor", "--set", "generate.max_tokens=50", "--set", "seed=3")
    assert found["command"] == ["-c", "run", "anchor", "--set", "generate.max_tokens=50", "--set", "seed=3"]


@pytest.mark.processes
def test_secrets_are_stored_neither_from_the_command_nor_from_the_environment() -> None:
    found = json.dumps(
        _of_a_command(
            "--token=sesame1",
            "--api-key",
            "sesame2",
            "--set",
            "server.password=sesame3",
            "https://user:sesame4@host/v1",
            "HF_TOKEN=sesame5",
            HF_TOKEN="sesame6",
        )
    )
    assert "sesame" not in found
    assert "https://***@host/v1" in found


def test_only_values_named_like_secrets_are_hidden() -> None:
    assert redact_arguments(["--token", "a", "b"]) == ["--token", "***", "b"]
    assert redact_arguments(["--api_key=a", "--API-KEY=b", "client.secret=c"]) == [
        "--api_key=***",
        "--API-KEY=***",
        "client.secret=***",
    ]
    plain = [
        "generate.max_tokens=50",
        "--store",
        "a@b",
        "token",
        "letters.jsonl",
        "http://host/x@y",
        "monkey=1",
        "--set",
    ]
    assert redact_arguments(plain) == plain


def _copy_module(folder: Path) -> None:
    """The module alone, in a tree of its own."""
    (folder / "storage/artifacts").mkdir(parents=True)
    for name in ("storage/__init__.py", "storage/artifacts/__init__.py", "storage/artifacts/provenance.py"):
        (folder / name).write_text((ROOT / name).read_text())


@pytest.mark.processes
def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    _copy_module(tmp_path)
    ceiling = str(tmp_path.parent)
    assert _of_a_command(folder=tmp_path, GIT_CEILING_DIRECTORIES=ceiling)["commit"] is None


@pytest.mark.processes
def test_a_changed_file_shows_beside_the_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    _copy_module(tmp_path)
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    head = git("rev-parse", "HEAD")
    clean = _of_a_command(folder=tmp_path, PYTHONDONTWRITEBYTECODE="1")["commit"]
    (tmp_path / "storage" / "__init__.py").write_text('"""Changed."""\n')
    assert (clean, _of_a_command(folder=tmp_path)["commit"]) == (head, f"{head}+changed")


@pytest.mark.processes
def test_the_commit_of_this_checkout_is_a_commit_or_nothing() -> None:
    found = commit()
    assert found is None or len(found.removesuffix("+changed")) in (40, 64)
