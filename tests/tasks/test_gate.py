import logging
from pathlib import Path

import pyarrow as pa
import pytest

from curation.gates import GateSettings, Limit
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.artifacts.schemas import METRICS
from storage.runs.run import Attempt, Run
from tasks.backends import Resources
from tasks.backends.registry import Backends
from tasks.context import Generation, GenerationHistory, StageContext
from tasks.gate import judge_generation
from tests.conftest import TINY


def _attempt(tmp_path: Path, generation: int) -> Attempt:
    return Attempt(Run(tmp_path, "tiny"), generation)


def _judge(tmp_path: Path, first: Artifact, now: Artifact, settings: GateSettings) -> Artifact:
    """Judge generation 2 by its metrics and those of one generation before it."""
    placeholder = _attempt(tmp_path, 0).artifact("corpus", {})
    generation_0 = Generation(
        attempt=_attempt(tmp_path, 0),
        curated=None,
        corpus=placeholder,
        model=placeholder,
        metrics=first,
        verdict=placeholder,
    )
    recipe = TINY.model_copy(update={"gate": settings})
    ctx = StageContext(attempt=_attempt(tmp_path, 2), recipe=recipe, backends=Backends(Resources(), tmp_path / "logs"))
    return judge_generation(ctx, GenerationHistory((generation_0,)), now)


def _metrics(tmp_path: Path, generation: int, **values: float) -> Artifact:
    """Metrics of the model, and others that the gate must not look at."""
    artifact = _attempt(tmp_path, generation).artifact("metrics", values)
    rows = [
        {"subject": subject, "metric": metric, "source": "all", "value": value * (1 if subject == "model" else 1000)}
        for metric, value in values.items()
        for subject in ("model", "corpus", "human")
    ]
    with artifact.draft() as draft:
        draft.write_part(pa.Table.from_pylist(rows, schema=METRICS))
    return artifact


_LIMITS = GateSettings(
    limits=(
        Limit(metric="perplexity", at_most=1.5),
        Limit(metric="perplexity", at_most=3, action="stop"),
        Limit(metric="vocabulary_size", at_least=0.5),
    )
)


@pytest.mark.parametrize(
    ("perplexity", "vocabulary_size", "actions", "worst"),
    [
        (140.0, 900.0, ["go", "go", "go"], "go"),
        (150.0, 500.0, ["go", "go", "go"], "go"),
        (151.0, 900.0, ["warn", "go", "go"], "warn"),
        (100.0, 499.0, ["go", "go", "warn"], "warn"),
        (301.0, 900.0, ["warn", "stop", "go"], "stop"),
    ],
)
def test_each_limit_has_its_say_and_the_worst_one_counts(
    tmp_path: Path, perplexity: float, vocabulary_size: float, actions: list[str], worst: str
) -> None:
    first = _metrics(tmp_path, 0, perplexity=100.0, vocabulary_size=1000.0)
    now = _metrics(tmp_path, 2, perplexity=perplexity, vocabulary_size=vocabulary_size)
    verdict = _judge(tmp_path, first, now, _LIMITS)
    rows = read_table(verdict.folder).to_pylist()
    assert [row["action"] for row in rows] == actions
    assert [row["limit"] for row in rows] == [150.0, 300.0, 500.0]
    assert [row["value"] for row in rows] == [perplexity, perplexity, vocabulary_size]
    facts = read_manifest(verdict.folder)["facts"]
    assert facts["action"] == worst
    assert facts["reasons"] == [row["reason"] for row in rows if row["action"] != "go"]


def test_a_violated_limit_is_logged_with_its_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, now = (
        _metrics(tmp_path, place, perplexity=value, vocabulary_size=9.0) for place, value in ((0, 100.0), (2, 200.0))
    )
    with caplog.at_level(logging.WARNING, logger="tasks"):
        _judge(tmp_path, first, now, _LIMITS)
    assert caplog.messages == [
        "tiny · generation 2 · perplexity of the model is 200 in generation 1, above 150 = 1.5 x generation 0's",
    ]


def test_without_limits_it_goes_on(tmp_path: Path) -> None:
    first, now = (_metrics(tmp_path, place, perplexity=value) for place, value in ((0, 100.0), (2, 1e9)))
    verdict = _judge(tmp_path, first, now, GateSettings(limits=()))
    assert read_manifest(verdict.folder)["facts"] == {"action": "go", "reasons": [], "first_generation": None}


def test_a_limit_on_what_was_not_measured_is_refused(tmp_path: Path) -> None:
    first, now = (_metrics(tmp_path, place, perplexity=100.0) for place in (0, 2))
    with pytest.raises(
        ValueError,
        match=r"a limit on vocabulary_size of the model, which was not measured\. Measured metrics: perplexity",
    ):
        _judge(tmp_path, first, now, _LIMITS)
    assert not (_attempt(tmp_path, 2).folder / "verdict").exists()
