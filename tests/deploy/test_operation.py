"""Operation against a real Prefect server on a real PostgreSQL: deployed, scheduled, served, reported, and paused."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.operations.postgres import free_port, postgres, programs
from flows.config.recipe import Recipe
from storage.query.catalog import open_catalog
from tests.conftest import human_texts, prefect_free_environment
from tests.support.paths import ROOT
from tests.support.waiting import until

QUIET = {
    "name": "quiet",
    "train": {"backend": "ngram"},
    "curate": {"filters": []},
    "evaluate": {"num_samples": 20},
    "gate": {"limits": []},
    "review": {"when": "always", "timeout_hours": 20 / 3600, "default_decision": "stop"},
}
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def notifications() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An Apprise address, and what was sent there."""
    received: list[dict[str, Any]] = []

    class NotificationReceiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), NotificationReceiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}", received
    server.shutdown()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server on a database of its own, as environment of its clients."""
    if programs() is None:
        pytest.skip("no PostgreSQL is installed")
    home, port = tmp_path_factory.mktemp("server"), free_port()
    with postgres() as database, (home / "server.log").open("w") as log:
        found = prefect_free_environment() | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.address,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        words = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(words, env=found, cwd=home, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: answers(found), "an answer of the server")
            yield found
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(120)


def answers(environment: dict[str, str]) -> bool:
    try:
        return httpx.get(f"{environment['PREFECT_API_URL']}/ready", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def ask(environment: dict[str, str], notifications: tuple[str, object]) -> Ask:
    """A question to the server that bootstrap.sh has made ready, its automations twice, as an upgrade does."""
    for command in (["sh", "deploy/bootstrap.sh"], [sys.executable, "-m", "deploy.automations"]):
        found = subprocess.run(
            command,
            cwd=ROOT,
            env={
                **environment,
                "HEIRLOOM_NOTIFY_URL": notifications[0],
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout + found.stderr

    def question(method: str, path: str, body: object = None) -> Any:
        answer = httpx.request(method, environment["PREFECT_API_URL"] + path, json=body, timeout=120)
        return answer.json() if answer.content else answer.status_code

    return question


def test_every_deployment_is_there_once_with_its_schedule_and_its_queue(ask: Ask) -> None:
    found = {one["entrypoint"]: one for one in ask("POST", "/deployments/filter", {})}
    assert set(found) == {
        "flows.orchestration.deployments.ingest",
        "flows.orchestration.deployments.add_generations",
        "flows.orchestration.deployments.compare",
    }
    for one in found.values():
        assert [schedule["active"] for schedule in one["schedules"]] == [False]
        assert one["global_concurrency_limit"]["limit"] == 1
        assert one["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert one["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
        assert one["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]["directory"] == str(ROOT)
        assert one["description"] and "heirloom" in one["tags"] and one["work_pool_name"] == "heirloom"


def test_the_form_keeps_its_order_in_the_database(ask: Ask) -> None:
    schema = ask("GET", "/deployments/name/evolve/nightly")["parameter_openapi_schema"]
    fields = schema["definitions"]["Recipe"]["properties"]
    assert sorted(fields, key=lambda name: fields[name]["position"]) == list(Recipe.model_fields)


def test_the_server_refuses_what_the_form_does_not_allow(ask: Ask) -> None:
    deployment = ask("GET", "/deployments/name/evolve/nightly")["id"]
    wrong = {"recipe": {"name": "x", "dataset": "letters", "mix": {"policy": "hope"}}}
    answer = ask("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": wrong})
    assert "hope" in json.dumps(answer) and "id" not in answer


def test_schedules_can_be_written(ask: Ask) -> None:
    # SQLAlchemy 2.1 breaks the insert behind this without a word: everything looks healthy and no schedule fires.
    deployment = ask("GET", "/deployments/name/ingest/nightly")
    ask("PATCH", f"/deployments/{deployment['id']}/schedules/{deployment['schedules'][0]['id']}", {"active": True})
    ask("POST", f"/deployments/{deployment['id']}/schedule", {})
    body = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    assert ask("POST", "/flow_runs/count", body) > 0
    ask("PATCH", f"/deployments/{deployment['id']}/schedules/{deployment['schedules'][0]['id']}", {"active": False})


def test_automations_are_there_once_each(ask: Ask) -> None:
    names = [one["name"] for one in ask("POST", "/automations/filter", {})]
    assert len(names) == len(set(names)) == 14
    assert "heirloom: tell of heirloom.gate.rolled_back" in names


@pytest.fixture(scope="module")
def served(ask: Ask, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A flow run of `heirloom serve`, whose gate stops it at once."""
    folder = tmp_path_factory.mktemp("served")
    texts = folder / "letters.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in human_texts(160)))
    heirloom = [sys.executable, "-m", "flows"]
    environment = {**environment, "HEIRLOOM_STORE": str(folder / "store")}
    subprocess.run([*heirloom, "ingest", str(texts), "--name", "letters"], cwd=ROOT, env=environment, check=True)
    small = [
        "dataset=letters",
        "evaluate.num_samples=20",
        'gate.limits=[{metric="vocabulary_size", at_most=0.001, action="stop"}]',
    ]
    changes = [word for change in small for word in ("--set", change)]
    with (folder / "serve.log").open("w") as log:
        words = [*heirloom, "serve", "ngram", *changes, "--cron", "0 2 * * *"]
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            preexec_fn=_hear_interrupts,  # noqa: PLW1509  (it takes no lock)
        )
        try:
            until(lambda: "id" in ask("GET", "/deployments/name/compare/served"), "what is served")
            deployment = ask("GET", "/deployments/name/evolve/served")["id"]
            run = ask("POST", f"/deployments/{deployment}/create_flow_run", {})["id"]
            until(
                lambda: ask("GET", f"/flow_runs/{run}")["state_type"] in {"COMPLETED", "FAILED", "CRASHED"},
                "the end of the served run",
            )
            quiet = {**QUIET, "dataset": "letters"}
            silent = ask(
                "POST",
                f"/deployments/{deployment}/create_flow_run",
                {"parameters": {"recipe": quiet, "num_generations": 2}},
            )["id"]
            until(
                lambda: ask("GET", f"/flow_runs/{silent}")["state_type"] == "COMPLETED", "a run that goes on by default"
            )
            failing = {**quiet, "name": "failing", "dataset": "absent"}
            failed = ask("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": {"recipe": failing}})[
                "id"
            ]
            until(lambda: ask("GET", f"/flow_runs/{failed}")["state_type"] == "FAILED", "a failed run")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)
    assert ask("GET", f"/flow_runs/{run}")["state_type"] == "COMPLETED", (folder / "serve.log").read_text()[-3000:]
    return {"run": run, "deployment": deployment, "silent": silent, "failed": failed, "store": folder / "store"}


def test_a_review_without_an_answer_suspends_the_run_and_then_its_default_decision_applies(
    served: dict[str, Any], ask: Ask
) -> None:
    states = [one["name"] for one in ask("GET", f"/flow_run_states/?flow_run_id={served['silent']}")]
    assert [name for name in states if name in ("Suspended", "Failed", "AwaitingRetry", "Stopped", "Completed")] == [
        *("Suspended", "Failed", "AwaitingRetry", "Stopped")
    ]
    query = "select generation, decision, reviewer from journal where event = 'reviewed'"
    assert open_catalog(served["store"], ["quiet"]).sql(query).fetchall() == [(1, "stop", "time limit")]


def _hear_interrupts() -> None:
    """Where tests run in the background, a child is born deaf to them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_served_run_leaves_a_page_and_the_gate_s_table(served: dict[str, Any], ask: Ask) -> None:
    found = {one["key"]: one for one in ask("POST", "/artifacts/filter", {}) if one["key"]}
    assert found["ngram-generation"]["data"].startswith("# ngram · generation 0: stop")
    assert json.loads(found["ngram-gate"]["data"])[0]["action"] == "stop"
    children = ask("POST", "/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [served["run"]]}}})
    assert [child["name"] for child in children] == ["ngram · generation 0"]


def test_a_stopped_gate_pauses_the_deployment(served: dict[str, Any], ask: Ask) -> None:
    until(lambda: ask("GET", f"/deployments/{served['deployment']}")["paused"], "a pause of the deployment")


def test_a_finished_generation_sends_a_notification(
    served: dict[str, Any], notifications: tuple[str, list[dict[str, Any]]]
) -> None:
    (message,) = until(lambda: [one for one in notifications[1] if "finished" in one["title"]], "a message")[:1]
    assert message["title"] == "A generation is finished"
    assert "ngram · generation 0" in message["message"] and "verdict: stop" in message["message"]


def test_a_stopped_run_has_a_state_of_its_own_with_the_reason(served: dict[str, Any], ask: Ask) -> None:
    run = ask("GET", f"/flow_runs/{served['run']}")
    assert run["state_name"] == "Stopped" and "vocabulary_size" in run["state"]["message"]
    assert "verdict:stop" in run["tags"]


def test_a_failed_run_sends_a_notification_and_a_review_without_an_answer_none(
    served: dict[str, Any], ask: Ask, notifications: tuple[str, list[dict[str, Any]]]
) -> None:
    message = until(lambda: _sent(notifications[1], "A run failed: failing"), "a message")
    assert "There is no dataset 'absent'" in message["message"] and served["failed"] in message["message"]
    assert "There is no dataset 'absent'" in ask("GET", f"/flow_runs/{served['failed']}")["state"]["message"]
    lines = ask("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [served["failed"]]}}})
    assert not [line["message"] for line in lines if "Traceback" in line["message"]]
    assert not _sent(notifications[1], "A run failed: quiet")


def test_the_third_crash_sends_a_notification_and_an_earlier_one_none(
    served: dict[str, Any], ask: Ask, notifications: tuple[str, list[dict[str, Any]]]
) -> None:
    run = ask("POST", f"/deployments/{served['deployment']}/create_flow_run", {"name": "crashing"})["id"]
    for count in (1, 2, 3):
        for state in ("RUNNING", "CRASHED"):
            body = {"state": {"type": state, "message": f"crash {count}"}, "force": True}
            ask("POST", f"/flow_runs/{run}/set_state", body)
        if count < 3:
            until(lambda: ask("GET", f"/flow_runs/{run}")["state_name"] == "AwaitingRetry", "another start")
            assert not _sent(notifications[1], "A run crashed")
    message = until(lambda: _sent(notifications[1], "A run crashed"), "a message")
    assert message["title"] == "A run crashed 3 times: crashing" and "crash 3" in message["message"]


def _sent(messages: list[dict[str, Any]], title: str) -> dict[str, Any] | None:
    return next((message for message in messages if message["title"].startswith(title)), None)


def test_corpus_and_model_are_traced(served: dict[str, Any], ask: Ask) -> None:
    wanted = {"filter": {"event": {"name": ["prefect.asset.materialization.succeeded"]}}}

    def assets() -> set[str]:
        return {event["resource"]["prefect.resource.id"] for event in ask("POST", "/events/filter", wanted)["events"]}

    found = until(lambda: found if len(found := assets()) >= 2 else None, "two assets")
    assert {name.rsplit("/", 1)[1] for name in found} == {"corpus", "model"}
    assert all(name.startswith("file:///") for name in found)
