import math
from collections.abc import Callable

import pytest

from curation.metrics.settings import EvalSettings
from storage.artifacts.artifact import read_table
from tasks.backends import NgramTraining
from tasks.backends.registry import Backends
from tasks.evaluation.inputs import EvalInputs
from tasks.evaluation.perplexity import measure_perplexity
from tests.tasks.conftest import Beginning


def test_each_held_out_text_is_scored_and_adds_up_to_the_loss(
    begin: Callable[[str], Beginning], backends: Backends
) -> None:
    begun = begin("tiny")
    made = EvalInputs(begun.model, begun.corpus, begun.reserve, begun.heldout)
    scorer = backends.scorer(NgramTraining())
    rows, table = measure_perplexity(begun.attempt(0), made, {}, EvalSettings(), 0, scorer, lambda *_: None)
    assert table["id"].to_pylist() == read_table(begun.heldout.folder)["id"].to_pylist()
    values = {row["metric"]: row["value"] for row in rows}
    told = table.to_pylist()
    mean = sum(row["nll"] for row in told) / sum(row["tokens"] for row in told)
    assert values["perplexity"] == pytest.approx(math.exp(mean))
    assert values["loss_change"] == 0
