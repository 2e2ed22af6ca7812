"""Metrics to a verdict: what each limit says about this generation, and what kind of collapse it all amounts to.

The verdict is an event of Prefect's too, `heirloom.gate.warned` for one, which an automation can wait for.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
from prefect.events import emit_event

from curation.gates import GateSettings, evaluate_gate, most_severe
from curation.metrics.collapse_tests import run_collapse_tests
from curation.metrics.types import Metrics, Value
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import COLLAPSE_TESTS, GATE_RESULTS
from storage.runs.run import Attempt
from tasks.orchestration.prefect import in_flow_run, task
from tasks.orchestration.progress import logger

_EVENTS = {
    "go": "passed",
    "warn": "warned",
    "raise_human_fraction": "raised_human_fraction",
    "roll_back": "rolled_back",
    "stop": "stopped",
}


@task
def judge_generation(attempt: Attempt, metrics: Sequence[Artifact], settings: GateSettings) -> Artifact:
    """Publish verdict and profile, from the metrics of every generation so far, generation 0 first, this one last.

    Raises:
        HeirloomError: a limit asks for a metric that was not measured.
    """
    parents = {f"metrics_{place}": one for place, one in enumerate(metrics)}
    verdict = attempt.artifact("verdict", settings.model_dump(mode="json"), **parents)
    if verdict.exists():
        return verdict
    told = [_values(one) for one in metrics]
    verdicts = evaluate_gate(settings, told)
    findings = attempt.artifact("collapse_tests", {}, **parents)
    if not findings.exists():
        with findings.draft() as draft:
            draft.write_part(
                pa.Table.from_pylist([asdict(one) for one in run_collapse_tests(told)], schema=COLLAPSE_TESTS)
            )
    with verdict.draft() as draft:
        draft.write_part(pa.Table.from_pylist([asdict(one) for one in verdicts], schema=GATE_RESULTS))
        since = min(
            (
                one.first_generation
                for one in verdicts
                if one.action == most_severe(verdicts) and one.first_generation is not None
            ),
            default=None,
        )
        draft.facts = {
            "action": most_severe(verdicts),
            "reasons": [one.reason for one in verdicts if one.reason],
            "first_generation": since,
        }
    for reason in draft.facts["reasons"]:
        logger.warning("%s · %s", attempt, reason)
    if in_flow_run():
        resource = {
            "prefect.resource.id": f"heirloom.run.{attempt.run.name}",
            "prefect.resource.name": attempt.run.name,
        }
        said = {
            "generation": attempt.generation,
            "attempt": attempt.number,
            "verdicts": [asdict(one) for one in verdicts],
        }
        emit_event(
            f"heirloom.gate.{_EVENTS[draft.facts['action']]}", resource=resource, payload={**said, **draft.facts}
        )
    return verdict


def _values(metrics: Artifact) -> Metrics:
    return {
        (row["subject"], row["metric"]): Value(
            math.nan if row["value"] is None else row["value"], row["low"], row["high"]
        )
        for row in read_table(metrics.folder).to_pylist()
        if row["source"] == "all"
    }
