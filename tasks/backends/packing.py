"""Texts to blocks of tokens, and the order in which human and synthetic blocks are learned.

Texts are shuffled anew each pass, joined with their begin and end tokens, and cut into blocks without
padding, so every token of a step teaches.
"""

import random
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset


class Blocks(Dataset[dict[str, list[int]]]):
    """Blocks in the order they are to be learned, in the shape transformers' Trainer takes."""

    def __init__(self, blocks: list[list[int]]) -> None:
        self._blocks = blocks

    @classmethod
    def of_texts(cls, tokenizer: Any, texts: Sequence[str], context: int) -> "Blocks":  # noqa: ANN401
        """Every full block of one pass over `texts`, in their order: what a held-out loss is measured on."""
        stream = _tokens(tokenizer, texts)
        flat = [token for ids in stream for token in ids]
        return cls([flat[start : start + context] for start in range(0, len(flat) - context + 1, context)])

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        block = self._blocks[place]
        return {"input_ids": block, "labels": block}


class _Stream:
    """An endless stream of tokens: pass after pass over the same texts, each in its own order."""

    def __init__(self, documents: list[list[int]], context: int, seed: int) -> None:
        self._documents, self._context = documents, context
        self._dice = random.Random(seed)  # noqa: S311  (a shuffle, not a secret)
        self._rest: list[int] = []
        self.tokens = sum(map(len, documents))

    def next_block(self) -> list[int]:
        while len(self._rest) < self._context:
            self._dice.shuffle(self._documents)
            for document in self._documents:
                self._rest.extend(document)
        block, self._rest = self._rest[: self._context], self._rest[self._context :]
        return block


def packed_stream(tokenizer: Any, texts: Sequence[str], context: int, seed: int) -> _Stream:  # noqa: ANN401
    """Blocks of `context` tokens from `texts`, without end."""
    return _Stream(_tokens(tokenizer, texts), context, seed)


def human_share_plan(schedule: str, human_tokens: int, synthetic_tokens: int, blocks: int) -> list[bool]:
    """For each block to be learned, whether it is human.

    `constant` keeps the corpus's own share of tokens; `ramp` runs from none to all. Shares are carried over
    from block to block, so every stretch holds its share to within one block.
    """
    if not human_tokens or not synthetic_tokens:
        return [bool(human_tokens)] * blocks
    corpus_share = human_tokens / (human_tokens + synthetic_tokens)
    plan, owed = [], 0.0
    for place in range(blocks):
        owed += corpus_share if schedule == "constant" else place / max(1, blocks - 1)
        plan.append(owed >= 0.5)
        owed -= plan[-1]
    return plan


def _tokens(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:  # noqa: ANN401
    if not texts:
        return []
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [[tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in ids]
