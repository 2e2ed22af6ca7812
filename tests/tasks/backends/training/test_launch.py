from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="needs the train extra")

from tasks.backends import Resources, TransformerTraining
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

    told: list[tuple[int, int]] = []
    asked = (first.corpus, [], first.folder)
    folder = tmp_path / "model"
    folder.mkdir()
    lesson = two.trainer(tiny).train(*asked, folder, 2, lambda *said: told.append(said))
    assert (lesson.tokens, lesson.steps) == (8 * 4 * 64, 8)
    assert told[-1] == (8, 8)
    assert {path.name for path in folder.iterdir()} == {path.name for path in first.folder.iterdir()}
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == 400
    assert lesson.log[-1].loss < lesson.log[0].loss
    odd = tiny.model_copy(update={"batch_size": 3})
    with pytest.raises(ValueError, match="batch is 3, and 2 processes share it"):
        two.trainer(odd).train(*asked, folder, 2, lambda *_: None)


def test_a_configuration_that_is_not_there_is_refused(
    tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    opened = Backends(Resources(accelerate_config=str(tmp_path / "nowhere.yaml")), tmp_path / "logs")
    try:
        with pytest.raises(ValueError, match="there is no configuration of accelerate"):
            opened.trainer(tiny).train(first.corpus, [], None, tmp_path, 0, lambda *_: None)
    finally:
        opened.close()
