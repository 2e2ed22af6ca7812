"""Compare the metrics of a generation with the limits of `[gate]`, and run the collapse tests on them.

The verdict is also a Prefect event, for example `heirloom.gate.warned`, which an automation can react to.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa
from prefect.events import emit_event

from curation.gates import Verdict, evaluate_gate, most_severe
from curation.metrics.collapse_tests import run_collapse_tests
from curation.metrics.types import Metrics, Value
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import COLLAPSE_TESTS, GATE_RESULTS
from storage.runs.run import Attempt
from tasks.context import GenerationHistory, StageContext
from tasks.orchestration.prefect import in_flow_run, task
from tasks.orchestration.progress import logger

_EVENT_OF_ACTION = {
    "go": "passed",
    "warn": "warned",
    "raise_human_fraction": "raised_human_fraction",
    "roll_back": "rolled_back",
    "stop": "stopped",
}


@task
def publish_collapse_tests(ctx: StageContext, history: GenerationHistory, metrics: Artifact) -> Artifact:
    """Publish the results of the collapse tests on the metrics of every generation so far."""
    all_metrics = _all_metrics(history, metrics)
    tests = ctx.attempt.artifact("collapse_tests", {}, **_metrics_parents(all_metrics))
    if tests.exists():
        return tests
    with tests.draft() as draft:
        rows = [asdict(test) for test in run_collapse_tests([_read_metrics(artifact) for artifact in all_metrics])]
        draft.write_part(pa.Table.from_pylist(rows, schema=COLLAPSE_TESTS))
    return tests


@task
def judge_generation(ctx: StageContext, history: GenerationHistory, metrics: Artifact) -> Artifact:
    """Publish the verdict on this generation: the result of each limit, and the most severe action.

    Raises:
        HeirloomError: a limit needs a metric that was not measured.
    """
    settings, all_metrics = ctx.recipe.gate, _all_metrics(history, metrics)
    verdict = ctx.attempt.artifact("verdict", settings.model_dump(mode="json"), **_metrics_parents(all_metrics))
    if verdict.exists():
        return verdict
    results = evaluate_gate(settings, [_read_metrics(artifact) for artifact in all_metrics])
    action = most_severe(results)
    first_generations = [
        result.first_generation for result in results if result.action == action and result.first_generation is not None
    ]
    reasons = [result.reason for result in results if result.reason]
    facts = {"action": action, "reasons": reasons, "first_generation": min(first_generations, default=None)}
    with verdict.draft() as draft:
        draft.write_part(pa.Table.from_pylist([asdict(result) for result in results], schema=GATE_RESULTS))
        draft.facts = facts
    for reason in reasons:
        logger.warning("%s · %s", ctx.attempt, reason)
    if in_flow_run():
        _emit_verdict(ctx.attempt, results, action, facts)
    return verdict


def _emit_verdict(attempt: Attempt, results: Sequence[Verdict], action: str, facts: Mapping[str, object]) -> None:
    payload = {
        "generation": attempt.generation,
        "attempt": attempt.number,
        "verdicts": [asdict(result) for result in results],
        **facts,
    }
    resource = {"prefect.resource.id": f"heirloom.run.{attempt.run.name}", "prefect.resource.name": attempt.run.name}
    emit_event(f"heirloom.gate.{_EVENT_OF_ACTION[action]}", resource=resource, payload=payload)


def _all_metrics(history: GenerationHistory, metrics: Artifact) -> list[Artifact]:
    """Metrics of every generation so far, generation 0 first, this one last."""
    return [*(generation.metrics for generation in history), metrics]


def _metrics_parents(all_metrics: Sequence[Artifact]) -> dict[str, Artifact]:
    return {f"metrics_{generation}": artifact for generation, artifact in enumerate(all_metrics)}


def _read_metrics(metrics: Artifact) -> Metrics:
    """Read the metrics over all sources; a null value is NaN."""
    return {
        (row["subject"], row["metric"]): Value(
            math.nan if row["value"] is None else row["value"], row["low"], row["high"]
        )
        for row in read_table(metrics.folder).to_pylist()
        if row["source"] == "all"
    }
