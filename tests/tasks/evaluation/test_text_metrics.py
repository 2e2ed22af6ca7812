"""Each source of human text by itself, and what is copied."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from curation.metrics.settings import EvalSettings
from storage.artifacts.artifact import Artifact
from storage.artifacts.ids import human_id, text_hash
from storage.artifacts.schemas import HUMAN_RECORDS
from storage.runs.run import Attempt, Run
from tasks.context import GenerationHistory, HumanData
from tasks.evaluation.inputs import EvalInputs
from tasks.evaluation.text_metrics import measure_custom_metrics, measure_memorization, measure_words, texts_by_subject
from tests.conftest import human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun


def _human(folder: Path, texts: dict[str, list[str]]) -> Artifact:
    artifact = Artifact(folder, {"by": "hand"})
    rows = [
        {
            "id": human_id(text),
            "text": text,
            "origin": "human",
            "source_generation": 0,
            "source": source,
            "text_hash": text_hash(text),
        }
        for source, some in texts.items()
        for text in some
    ]
    with artifact.draft() as draft:
        draft.write_part(pa.Table.from_pylist(rows, schema=HUMAN_RECORDS))
    return artifact


@pytest.fixture
def made(tmp_path: Path) -> EvalInputs:
    first, second = human_texts(30), [f"zebra {place} grazes" for place in range(20)]
    train = _human(tmp_path / "human_train", {"letters": first, "zoo": second})
    heldout = _human(tmp_path / "human_heldout", {"letters": human_texts(10, seed=4), "zoo": ["a zebra grazes"]})
    human = HumanData(train=train, heldout=heldout, protected={"human_heldout": heldout})
    return EvalInputs(human=human, history=GenerationHistory(), corpus=train, model=train)


def _samples(tmp_path: Path) -> Artifact:
    samples = Attempt(Run(tmp_path, "hand"), 0).artifact("eval_samples", {})
    with samples.draft() as draft:
        draft.write_part(pa.table({"prompt": ["a", ""], "text": ["a b", "zebra zebra"], "seed": [1, 2]}))
    return samples


def test_several_sources_have_metrics_of_their_own(made: EvalInputs, tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    rows = measure_words(made, samples, texts_by_subject(made, samples), EvalSettings(), 0)
    found = {(row["subject"], row["source"]): row["value"] for row in rows if row["metric"] == "type_coverage"}
    assert set(found) == {
        *((subject, "all") for subject in ("model", "human", "corpus")),
        *((subject, source) for subject in ("human", "corpus") for source in ("letters", "zoo")),
    }
    assert found["corpus", "zoo"] == 1.0
    assert found["human", "zoo"] == 2 / 22
    few = measure_words(made, samples, texts_by_subject(made, samples), EvalSettings(num_sources=1), 0)
    assert {row["source"] for row in few} == {"all", "letters"}


def test_copies_among_candidates_are_counted(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    learned = human_texts(160)
    from storage.artifacts.artifact import read_table

    kept = read_table(started.corpus.folder)["text"].to_pylist()
    others = [f"quite another text number {place}" for place in range(15)]
    inputs = EvalInputs(
        human=started.human,
        history=started.history(),
        corpus=started.corpus,
        model=started.model,
        curated=publish_candidates(started.attempt(1), [*kept[:5], *others]),
    )
    (row,) = measure_memorization(inputs, EvalSettings())
    assert row["value"] == 0.25
    assert set(kept) <= set(learned)
    assert measure_memorization(replace(inputs, history=GenerationHistory()), EvalSettings()) == []


def test_a_custom_metric_is_published_for_every_subject(made: EvalInputs, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def words(texts):\n    return {'words': sum(len(one.split()) for one in texts)}\n"
    )
    settings = EvalSettings(custom_metrics=(f"{tmp_path}/mine.py:words",))
    rows = measure_custom_metrics(made, texts_by_subject(made, _samples(tmp_path)), settings)
    found = {row["subject"]: row["value"] for row in rows}
    assert set(found) == {"model", "human", "corpus"}
    assert found["model"] == 2
    assert json.dumps(found)
