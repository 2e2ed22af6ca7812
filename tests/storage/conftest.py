"""A store with two runs, the first attempt at a generation of one of them rejected; and what it is made with."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.artifacts import schemas as records
from storage.artifacts.artifact import Artifact
from storage.artifacts.ids import synthetic_id
from storage.datasets.eval_sets import eval_set_folder
from storage.datasets.snapshots import human_folder
from storage.runs.run import Attempt, Run

HUMAN_VIEWS = {
    "human_train": records.HUMAN_RECORDS,
    "human_heldout": records.HUMAN_RECORDS,
    "rejected_documents": records.REJECTED_DOCUMENTS,
}
RECIPE = {
    "description": "does it collapse?",
    "dataset": "letters",
    "mix": {"policy": "anchor"},
    "train": {"backend": "ngram"},
    "generate": {"sampler": "ngram"},
    "num_generations": 2,
    "seed": 7,
}


def publish(artifact: Artifact, schema: pa.Schema, rows: Sequence[Mapping[str, Any]], **facts: object) -> Artifact:
    with artifact.draft() as draft:
        draft.write_part(pa.Table.from_pylist(list(rows), schema=schema))
        draft.facts = facts
    return artifact


def live(run: Run, generation: int, number: int = 1, perplexity: float = 10.0) -> None:
    """Publish a small attempt: two candidates, of which one goes, and what follows from that."""
    attempt = Attempt(run, generation, number)
    run.append("started", generation, number, snapshot=1)
    names = [synthetic_id(generation, number, serial) for serial in range(2)]
    candidates = publish(
        attempt.artifact("candidates", {"seed": number}),
        records.CANDIDATES,
        [
            {
                "id": one,
                "text": f"text {one}",
                "origin": "synthetic",
                "source_generation": generation,
                "prompt_template": "unconditional",
                "attributes": [("tone", "plain"), ("topic", "0")],
                "prompt_id": place,
                "model_fingerprint": "m",
            }
            for place, one in enumerate(names)
        ],
        generated_tokens=20,
    )
    alert = {
        "source": "letters.txt",
        "filter": "exact",
        "dropped": 1,
        "num_seen": 2,
        "baseline_rate": 0.1,
        "reason": "too much",
    }
    decisions = publish(
        attempt.artifact("decisions", {}, candidates=candidates),
        records.DECISIONS,
        [
            {"id": names[0], "filter": "best_of", "kept": True, "reason": "", "score": 5.0},
            {"id": names[0], "filter": "exact", "kept": True, "reason": ""},
            {"id": names[1], "filter": "exact", "kept": False, "reason": "exact duplicate", "score": 1.0},
        ],
        survivors=1,
        filter_rate_alerts=[alert],
    )
    corpus = publish(
        attempt.artifact("corpus", {}, decisions=decisions),
        records.CORPUS,
        [{"id": names[0], "weight": 1.0}],
        corpus=4,
        human=3,
        human_fraction=0.75,
        snapshot=1,
    )
    model = publish(
        attempt.artifact("model", {}, corpus=corpus), records.TRAINING, [{"step": 1, "loss": 2.0}], tokens=9
    )
    publish(
        attempt.artifact("metrics", {}, model=model),
        records.METRICS,
        [{"subject": "model", "metric": "perplexity", "source": "all", "value": perplexity}],
    )
    publish(
        attempt.artifact("eval_samples", {}, model=model),
        records.EVAL_SAMPLES,
        [{"prompt": "The", "text": "The old", "seed": 1}, {"prompt": "", "text": "free", "seed": 2}],
    )
    publish(attempt.artifact("excluded_records", {}), records.DECISIONS, [{"id": "h-1", "filter": "decontamination"}])
    tail = {
        "topic": 0,
        "words": ["the", "old"],
        "human_count": 3,
        "synthetic_count": 0,
        "prompt_share": 1.0,
        "human_ids": ["h-1"],
    }
    publish(attempt.artifact("topics", {}), records.TOPICS, [tail])
    row = {"eval_set": "human_heldout", "origin": "human", "num_compared": 3, "num_overlapping": 1, "max_jaccard": 0.7}
    publish(attempt.artifact("contamination_report", {}), records.CONTAMINATION_REPORT, [row], contaminated=1)
    publish(
        attempt.artifact("verdict", {}),
        records.GATE_RESULTS,
        [{"action": "go", "metric": "perplexity", "first_generation": 1}],
    )
    forecast = {"metric": "perplexity", "value": 9.0, "low": 8.0, "high": 10.0}
    publish(attempt.artifact("forecast", {}), records.FORECAST, [forecast])
    finding = {"test": "lost_tails", "result": "absent", "evidence": "none"}
    publish(attempt.artifact("collapse_tests", {}), records.COLLAPSE_TESTS, [finding])


@pytest.fixture
def two_runs(_two_runs: Path, tmp_path: Path) -> Path:
    """Two runs; the first attempt at generation 1 of one of them was rejected. A copy, to do with as a test likes."""
    return Path(shutil.copytree(_two_runs, tmp_path / "store"))


@pytest.fixture(scope="session")
def _two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two") / "store"
    for side, schema in HUMAN_VIEWS.items():
        row = {
            "id": "h-1",
            "source": "letters.txt",
            **({} if side == "rejected_documents" else {"text": side, "origin": "human", "license": "CC0-1.0"}),
        }
        publish(Artifact(human_folder(root, "letters", 1) / side, {}), schema, [row])
    exam = eval_set_folder(root, "letters", "exam")
    publish(Artifact(exam / "records", {}), records.HUMAN_RECORDS, [{"id": "h-2", "text": "exam", "origin": "human"}])
    publish(Artifact(exam / "rejected_documents", {}), records.REJECTED_DOCUMENTS, [{"filter": "read"}])
    met = {"found_in": "corpus", "run": "first", "generation": 0, "attempt": 1, "duplicate_of": "h-2"}
    for look in (1, 2):
        rows = [{**met, "id": f"h-{look}", "similarity": look / 2}]
        publish(Artifact(exam / f"eval_exposures={look}", {}), records.EVAL_EXPOSURES, rows)
    for name in ("first", "second"):
        run = Run(root, name)
        run.initialize(RECIPE, set(), {})
        live(run, 0)
        live(run, 1, 1, perplexity=99.0)
        if name == "first":
            run.append("rejected", 1, 1, "perplexity rose")
            live(run, 1, 2, perplexity=12.0)
    return root
