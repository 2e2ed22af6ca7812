import math
from collections.abc import Callable

import pytest

from curation.metrics.settings import EvalSettings
from storage.artifacts.artifact import read_table
from tasks.context import GenerationHistory
from tasks.evaluation.inputs import EvalInputs
from tasks.evaluation.perplexity import measure_perplexity
from tests.tasks.conftest import StartedRun


def test_each_held_out_text_is_scored_and_adds_up_to_the_loss(
    start_run: Callable[[str], StartedRun],
) -> None:
    started = start_run("tiny")
    inputs = EvalInputs(human=started.human, history=GenerationHistory(), corpus=started.corpus, model=started.model)
    rows, table = measure_perplexity(started.context(0, evaluate=EvalSettings()), inputs, {}, lambda *_: None)
    assert table["id"].to_pylist() == read_table(started.human.heldout.folder)["id"].to_pylist()
    values = {row["metric"]: row["value"] for row in rows}
    told = table.to_pylist()
    mean = sum(row["nll"] for row in told) / sum(row["tokens"] for row in told)
    assert values["perplexity"] == pytest.approx(math.exp(mean))
    assert values["loss_change"] == 0
