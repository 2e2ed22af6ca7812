"""A run against a real Prefect server in a process of its own, and what is seen there."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import prefect_free_environment
from tests.support.browser import open_browser
from tests.support.paths import ROOT
from tests.support.prefect_server import ask, prefect_process
from tests.support.waiting import until

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prefect server with a database of its own."""
    with prefect_process(tmp_path_factory.mktemp("prefect"), {}) as address:
        yield address


@pytest.fixture(scope="module")
def watched(server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The server after a run of the command line against it."""
    folder = tmp_path_factory.mktemp("watched")
    letters = folder / "letters.jsonl"
    code = (
        f"from tests.conftest import human_texts; import json\nopen({str(letters)!r}, "
        "'w').write(''.join(json.dumps({'text': t}) + chr(10) for t in human_texts(160)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    environment = {
        **prefect_free_environment(),
        "PREFECT_API_URL": f"{server}/api",
        "HEIRLOOM_STORE": str(folder / "store"),
    }
    small = ["--set", "dataset=letters", "--set", "num_generations=2", "--set", "evaluate.num_samples=20"]
    for command in (["ingest", str(letters), "--name", "letters"], ["run", "ngram", *small]):
        found = subprocess.run(
            [sys.executable, "-m", "flows", *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout + found.stderr
    return server


def test_a_run_reads_like_the_story_in_the_server(watched: str) -> None:
    runs = {str(run["name"]): str(run["state_type"]) for run in ask(watched, "POST", "/flow_runs/filter", {})}
    assert runs["ngram"] == "COMPLETED"
    assert {f"ngram · generation {number}" for number in range(3)} <= set(runs)

    # Task states are recorded behind the run's back.
    def task_names() -> set[str]:
        return {str(run["name"]).split("-")[0] for run in ask(watched, "POST", "/task_runs/filter", {"limit": 200})}

    until(
        lambda: {"ingest", "generate", "curate", "mix", "train", "evaluate", "judge_generation"} <= task_names(),
        "a run of each task",
    )


def test_a_generation_is_a_child_of_its_run(watched: str) -> None:
    runs = ask(watched, "POST", "/flow_runs/filter", {})
    children = [run for run in runs if str(run["name"]).startswith("ngram · generation")]
    assert len(children) == 3
    assert all(run["parent_task_run_id"] for run in children)


def test_log_messages_of_a_stage_are_in_the_server_s_logs(watched: str) -> None:
    def messages() -> list[str]:
        return [str(entry["message"]) for entry in ask(watched, "POST", "/logs/filter", {"limit": 200})]

    sentence = "ngram · generation 2 · train took"
    until(lambda: any(sentence in message for message in messages()), f"{sentence!r} in the logs")


def test_the_run_is_seen_in_the_ui(watched: str, tmp_path: Path) -> None:
    with open_browser(tmp_path) as page:
        page.open(f"{watched}/runs")
        page.wait_for("ngram · generation 2")
