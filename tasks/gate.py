"""Metrics to a verdict: what each limit says about this generation, against generation 0."""

from dataclasses import asdict

import pyarrow as pa

from curation.gates import GateSettings, judge, worst
from storage.artifact import Artifact, read_table
from storage.records import VERDICTS
from storage.run import Attempt
from tasks.coat import verb
from tasks.progress import logger


@verb
def gate(attempt: Attempt, metrics: Artifact, first: Artifact, settings: GateSettings) -> Artifact:
    """Publish the verdict; `first` are the metrics of generation 0.

    Raises:
        ValueError: a limit asks for a metric that was not measured.
    """
    verdict = attempt.artifact("verdict", settings.model_dump(mode="json"), metrics=metrics, first=first)
    if verdict.finished():
        return verdict
    verdicts = judge(settings, _values(first), _values(metrics))
    with verdict.draft() as draft:
        draft.write_part(pa.Table.from_pylist([asdict(one) for one in verdicts], schema=VERDICTS))
        draft.facts = {"action": worst(verdicts), "reasons": [one.reason for one in verdicts if one.reason]}
    for reason in draft.facts["reasons"]:
        logger.warning("%s · %s", attempt, reason)
    return verdict


def _values(metrics: Artifact) -> dict[str, float]:
    rows = read_table(metrics.folder).to_pylist()
    return {row["metric"]: row["value"] for row in rows if (row["subject"], row["source"]) == ("model", "all")}
