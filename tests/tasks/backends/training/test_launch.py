from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="needs the train extra")

from tasks.backends import Resources, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tests.tasks.conftest import Trained, two_processes

pytestmark = pytest.mark.transformer


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Backends]:
    """A site that trains by two processes."""
    opened = Backends(Resources(accelerate_config=two_processes(tmp_path, "MULTI_GPU")), tmp_path / "logs")
    yield opened
    opened.close()


def test_two_processes_train_one_model_as_one_process_would(
    two: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    reported: list[tuple[int, int]] = []
    folder = tmp_path / "model"
    folder.mkdir()
    job = TrainJob(settings=tiny, corpus=first.corpus, gen0_model=first.folder, folder=folder, seed=2)
    result = two.trainer().train(job, lambda *progress: reported.append(progress))
    assert (result.tokens, result.steps) == (8 * 4 * 64, 8)
    assert reported[-1] == (8, 8)
    assert {path.name for path in folder.iterdir()} == {path.name for path in first.folder.iterdir()}
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == 400
    assert result.log[-1].loss < result.log[0].loss
    odd = tiny.model_copy(update={"batch_size": 3})
    with pytest.raises(ValueError, match=r"train.batch_size is 3, but 2 processes share each batch"):
        two.trainer().train(replace(job, settings=odd), lambda *_: None)


def test_a_configuration_that_is_not_there_is_refused(
    tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    opened = Backends(Resources(accelerate_config=str(tmp_path / "nowhere.yaml")), tmp_path / "logs")
    job = TrainJob(settings=tiny, corpus=first.corpus, folder=tmp_path, seed=0)
    try:
        with pytest.raises(ValueError, match=r"resources\.accelerate_config is .* does not exist"):
            opened.trainer().train(job, lambda *_: None)
    finally:
        opened.close()
