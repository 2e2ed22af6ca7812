import pytest

pytest.importorskip("torch", reason="its errors are torch's")

import torch

from tasks.backends import TransformerTraining
from tasks.backends.training.trainer import explain_oom


def test_running_out_of_memory_names_the_settings_to_lower() -> None:
    # More than any address space: refused by every machine, whatever it has.
    with (
        pytest.raises(
            ValueError,
            match=r"ran out of memory with train\.batch_size = 8 and train\.context_length = 128\. Lower them",
        ),
        explain_oom(TransformerTraining()),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_a_card_that_is_full_is_too_little_memory_too() -> None:
    with pytest.raises(ValueError, match="Error from torch: CUDA out of memory"), explain_oom(TransformerTraining()):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_any_other_error_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), explain_oom(TransformerTraining()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
