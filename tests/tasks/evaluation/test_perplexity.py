import math
from collections.abc import Callable

import pytest

from curation.metrics.settings import EvalSettings
from storage.artifacts.artifact import read_table
from tasks.context import GenerationHistory
from tasks.evaluation.inputs import EvalInputs
from tasks.evaluation.perplexity import measure_perplexity
from tests.tasks.conftest import StartedRun


def test_perplexity_is_computed_from_the_scores_of_the_held_out_texts(
    start_run: Callable[[str], StartedRun],
) -> None:
    started = start_run("tiny")
    inputs = EvalInputs(human=started.human, history=GenerationHistory(), corpus=started.corpus, model=started.model)
    result = measure_perplexity(started.context(0, evaluate=EvalSettings()), inputs, {}, lambda *_: None)
    assert result.scores["id"].to_pylist() == read_table(started.human.heldout.folder)["id"].to_pylist()
    values = {row["metric"]: row["value"] for row in result.metrics}
    scores = result.scores.to_pylist()
    mean = sum(row["nll"] for row in scores) / sum(row["tokens"] for row in scores)
    assert values["perplexity"] == pytest.approx(math.exp(mean))
    assert values["loss_change"] == 0
    assert result.dtype == "float64"
