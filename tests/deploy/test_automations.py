"""The numbers that must agree for a healthy run to be left alone and a dead one to be found."""

import tomllib
from datetime import timedelta
from typing import Any

import yaml

from deploy.automations import RESUMES, SILENCE, automations
from flows.orchestration.environment import HEARTBEAT_SECONDS
from tests.support.paths import ROOT


def heartbeats(tree: Any) -> list[str]:
    """Every value that a tree of YAML gives to the heartbeat."""
    name = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    if isinstance(tree, dict):
        here = [tree[name]] if name in tree else [tree["value"]] if tree.get("name") == name else []
        return here + [found for value in tree.values() for found in heartbeats(value)]
    return [found for value in tree for found in heartbeats(value)] if isinstance(tree, list) else []


def test_the_sign_of_life_is_the_same_wherever_a_run_can_begin() -> None:
    assert tomllib.loads((ROOT / "prefect.toml").read_text())["flows"]["heartbeat_frequency"] == HEARTBEAT_SECONDS
    for path in (
        "prefect.yaml",
        "deploy/compose.yaml",
        "deploy/kubernetes/worker.yaml",
        "deploy/kubernetes/prefect-worker.values.yaml",
    ):
        found = heartbeats(list(yaml.safe_load_all((ROOT / path).read_text())))
        assert set(found) == {str(HEARTBEAT_SECONDS)}, path


def test_three_signs_of_life_must_be_missed() -> None:
    assert timedelta(seconds=3 * HEARTBEAT_SECONDS) == SILENCE
    dead, again, *_ = automations(None)
    assert dead.trigger.within == SILENCE  # type: ignore[union-attr]
    assert again.trigger.match.model_dump()["prefect.run-count"] == [str(count + 1) for count in range(RESUMES)]  # type: ignore[union-attr]


def test_automations_notify_only_with_a_notification_block() -> None:
    assert len(automations(None)) == 4
    names = [one.name for one in automations("6b1a1c38-7d5c-4a3f-9a52-0c1f5f7f9a10")]
    for event in (
        "generation.finished",
        "gate.warned",
        "gate.stopped",
        "gate.rolled_back",
        "budget.spent",
        "review.requested",
    ):
        assert f"heirloom: tell of heirloom.{event}" in names


def test_no_flow_is_retried_by_itself() -> None:
    # With a concurrency limit Prefect crashes a retried flow.
    from flows.orchestration.deployments import add_generations, compare, ingest

    assert [flow.retries for flow in (ingest, add_generations, compare)] == [0, 0, 0]


def test_a_missing_worker_and_a_night_without_a_generation_are_noticed_by_what_does_not_come() -> None:
    found = {one.name: one.trigger for one in automations("6b1a1c38-7d5c-4a3f-9a52-0c1f5f7f9a10", 26)}
    late, night = found["heirloom: tell of a missing worker"], found["heirloom: tell of a night without a generation"]
    for trigger in (late, night):
        assert trigger.posture.value == "Proactive"  # type: ignore[union-attr]
    assert late.after == {"prefect.flow-run.Late"} and late.within == timedelta(minutes=10)  # type: ignore[union-attr]
    assert night.after == night.expect == {"heirloom.generation.finished"}  # type: ignore[union-attr]
    assert night.within == timedelta(hours=26)  # type: ignore[union-attr]
