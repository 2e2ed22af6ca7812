"""Too little memory for a training, said in one sentence."""

import contextlib
from collections.abc import Iterator

import torch

from tasks.backends import TransformerTraining

_SAID = ("out of memory", "can't allocate memory", "not enough memory")


@contextlib.contextmanager
def short_of_memory(settings: TransformerTraining) -> Iterator[None]:
    """Turn what torch says of too little memory into what can be done about it.

    Raises:
        ValueError: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            said in str(error) for said in _SAID
        ):
            raise
        found = next((line for line in str(error).splitlines() if line.strip()), "no memory is left")
        raise ValueError(
            f"training ran out of memory with train.batch {settings.batch} and train.context {settings.context}: lower them, "
            f"set train.gradient_checkpointing = true, or train an adapter (train.lora_rank); torch said: {found[:200]}"
        ) from error
