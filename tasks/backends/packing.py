"""Texts to blocks of tokens, and the order in which human and synthetic blocks are learned.

Texts are shuffled anew each pass, joined with their begin and end tokens, and cut into blocks without
padding, so every token of a step teaches; or each text is a block of its own, cut to the context. A token that is
read and not learned, such as one of a prompt, is kept as its complement, -1 - token.
"""

import math
import random
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from torch.utils.data import Dataset

from tasks.backends import Text

UNLEARNED = -100
"""The label of a token that is read and not learned, in the libraries' own convention."""


class Blocks(Dataset[dict[str, list[int]]]):
    """Blocks in the order they are to be learned, in the shape transformers' Trainer takes."""

    def __init__(self, blocks: list[list[int]]) -> None:
        self._blocks = blocks

    @classmethod
    def of_texts(cls, tokenizer: Any, texts: Sequence[Text], context: int) -> "Blocks":  # noqa: ANN401
        """Every full block of one pass over `texts`, in their order: what a held-out loss is measured on."""
        flat = [token for ids in _tokens(tokenizer, texts) for token in ids]
        return cls([flat[start : start + context] for start in range(0, len(flat) - context + 1, context)])

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        block = self._blocks[place]
        if min(block) >= 0:
            return {"input_ids": block, "labels": block}
        return {
            "input_ids": [token if token >= 0 else -1 - token for token in block],
            "labels": [token if token >= 0 else UNLEARNED for token in block],
        }

    def tokens(self, first: int) -> int:
        """Tokens of the first so many blocks."""
        return sum(map(len, self._blocks[:first]))


class _Stream:
    """An endless stream of blocks: pass after pass over the same texts, each in its own order."""

    def __init__(
        self, documents: list[list[int]], context: int, seed: int, weights: Sequence[float], packed: bool
    ) -> None:
        self._documents = documents if packed else [_alone(document, context) for document in documents]
        self._context, self._packed = context, packed
        self._dice = random.Random(seed)  # noqa: S311  (a shuffle, not a secret)
        self._weights = list(weights) if set(weights) - {1.0} else []
        self._waiting: list[list[int]] = []
        self._rest: list[int] = []
        self._at = 0
        counted = self._weights or [1.0] * len(documents)
        self.tokens = round(sum(weight * len(one) for weight, one in zip(counted, self._documents, strict=True)))
        self.blocks = self.tokens / context if packed else sum(counted)
        """Blocks of one pass, on average."""

    def next_block(self) -> list[int]:
        if not self._packed:
            while not self._waiting:
                self._waiting = self._pass()[::-1]
            return self._waiting.pop()
        if len(self._rest) < self._at + self._context:
            self._rest, self._at = self._rest[self._at :], 0
        while len(self._rest) < self._context:
            for document in self._pass():
                self._rest.extend(document)
        self._at += self._context
        return self._rest[self._at - self._context : self._at]

    def _pass(self) -> list[list[int]]:
        """Every text once, or as often as its weight says."""
        if not self._weights:
            self._dice.shuffle(self._documents)
            return self._documents
        drawn = [self._documents[place] for place in often(self._weights, self._dice)]
        self._dice.shuffle(drawn)
        return drawn


def often(weights: Sequence[float], dice: random.Random) -> list[int]:
    """Places in one pass, each as often as its weight says: by its whole part, and by the dice for the rest."""
    found = []
    for place, weight in enumerate(weights):
        rest, whole = math.modf(weight)
        found += [place] * (int(whole) + (rest > 0 and dice.random() < rest))
    return found


def packed_stream(
    tokenizer: Any,  # noqa: ANN401
    texts: Sequence[Text],
    context: int,
    seed: int,
    weights: Sequence[float] = (),
    packed: bool = True,
) -> _Stream:
    """Blocks of `context` tokens from `texts`, or each text as a block of its own, without end."""
    seen = [place for place in range(len(texts)) if not weights or weights[place] > 0]
    documents = _tokens(tokenizer, [texts[place] for place in seen])
    return _Stream(documents, context, seed, [weights[place] for place in seen] if weights else (), packed)


def human_share_plan(schedule: str, human_tokens: float, synthetic_tokens: float, blocks: int) -> list[bool]:
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


def spelled(tokenizer: Any, prompt: str, response: str) -> tuple[list[int], list[int]]:  # noqa: ANN401
    """Tokens of a prompt, as a sampler spells it, and of the response that follows, with its end."""
    begun, said = tokenizer([prompt, response], add_special_tokens=False)["input_ids"]
    return [tokenizer.bos_token_id, *begun], [*said, tokenizer.eos_token_id]


def fitted(prompt: list[int], answer: int, context: int) -> list[int]:
    """A prompt that leaves room for an answer of so many tokens, or for half a context: its begin, and the end of what follows."""
    room = max(context - answer, context // 2)
    return prompt if len(prompt) <= room else [prompt[0], *prompt[len(prompt) - room + 1 :]]


def _alone(document: list[int], context: int) -> list[int]:
    """A text as a row of its own; what does not fit goes from what is only read before it goes from what is learned."""
    prompt = list(takewhile(lambda token: token < 0, document))
    answer = document[len(prompt) :]
    return [*fitted(prompt, len(answer), context), *answer][:context]


def _tokens(tokenizer: Any, texts: Sequence[Text]) -> list[list[int]]:  # noqa: ANN401
    if not texts:
        return []
    if all(isinstance(text, str) for text in texts):
        ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [[tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in ids]
    found = []
    for text in texts:
        # What is learned whole is spelled as the response to nothing, but for its begin, which is learned too.
        prompt, response = spelled(tokenizer, *(("", text) if isinstance(text, str) else text))
        found.append([*(prompt if isinstance(text, str) else [-1 - token for token in prompt]), *response])
    return found
