"""Texts to blocks of tokens, and the order in which human and synthetic blocks are learned.

Texts are shuffled anew each pass, joined with their begin and end tokens, and cut into blocks without
padding, so every token of a step teaches; or each text is a block of its own, cut to the context. A token that is
read and not learned, such as one of a prompt, is kept as its complement, -1 - token.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch.utils.data import Dataset

from heirloom.errors import HeirloomError
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.types import Text, TrainingCorpus

IGNORE_INDEX = -100
"""The label of a token that is read and not learned, in the libraries' own convention."""


class PackedDataset(Dataset[dict[str, list[int]]]):
    """Blocks in the order they are to be learned, in the shape transformers' Trainer takes."""

    def __init__(self, blocks: list[list[int]]) -> None:
        self._blocks = blocks

    @classmethod
    def from_texts(cls, tokenizer: Any, texts: Sequence[Text], context: int) -> "PackedDataset":  # noqa: ANN401
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
            "labels": [token if token >= 0 else IGNORE_INDEX for token in block],
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
        drawn = [self._documents[place] for place in repeat_by_weight(self._weights, self._dice)]
        self._dice.shuffle(drawn)
        return drawn


def repeat_by_weight(weights: Sequence[float], rng: random.Random) -> list[int]:
    """Places in one pass, each as often as its weight says: by its whole part, and by the dice for the rest."""
    found = []
    for place, weight in enumerate(weights):
        rest, whole = math.modf(weight)
        found += [place] * (int(whole) + (rest > 0 and rng.random() < rest))
    return found


def pack_sequences(
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


def schedule_human_blocks(schedule: str, human_tokens: float, synthetic_tokens: float, blocks: int) -> list[bool]:
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


def tokenize_pair(tokenizer: Any, prompt: str, response: str) -> tuple[list[int], list[int]]:  # noqa: ANN401
    """Tokens of a prompt, as a sampler spells it, and of the response that follows, with its end."""
    begun, said = tokenizer([prompt, response], add_special_tokens=False)["input_ids"]
    return [tokenizer.bos_token_id, *begun], [*said, tokenizer.eos_token_id]


def truncate_prompt(prompt: list[int], answer: int, context: int) -> list[int]:
    """A prompt that leaves room for an answer of so many tokens, or for half a context: its begin, and the end of what follows."""
    room = max(context - answer, context // 2)
    return prompt if len(prompt) <= room else [prompt[0], *prompt[len(prompt) - room + 1 :]]


def _alone(document: list[int], context: int) -> list[int]:
    """A text as a row of its own; what does not fit goes from what is only read before it goes from what is learned."""
    prompt = list(takewhile(lambda token: token < 0, document))
    answer = document[len(prompt) :]
    return [*truncate_prompt(prompt, len(answer), context), *answer][:context]


def _tokens(tokenizer: Any, texts: Sequence[Text]) -> list[list[int]]:  # noqa: ANN401
    if not texts:
        return []
    if all(isinstance(text, str) for text in texts):
        ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [[tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in ids]
    found = []
    for text in texts:
        # What is learned whole is spelled as the response to nothing, but for its begin, which is learned too.
        prompt, response = tokenize_pair(tokenizer, *(("", text) if isinstance(text, str) else text))
        found.append([*(prompt if isinstance(text, str) else [-1 - token for token in prompt]), *response])
    return found


@dataclass(frozen=True)
class TrainPlan:
    """Rows in the order they are learned, with the tokens of each and whether it is human."""

    rows: Any
    """Blocks, or preferences spelled in tokens."""
    sizes: list[int]
    human: list[bool]
    batch: int

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return len(self.sizes) // self.batch

    def tokens_seen(self, steps: int) -> tuple[int, int]:
        """Tokens of the first so many steps, and how many of them are human."""
        rows = list(zip(self.sizes, self.human, strict=True))[: steps * self.batch]
        return sum(size for size, _ in rows), sum(size for size, human in rows if human)


def build_train_plan(
    settings: TransformerTraining,
    corpus: TrainingCorpus,
    tokenizer: Any,  # noqa: ANN401
    human_only: bool,
    seed: int,
) -> TrainPlan:
    """What the objective makes of the corpus.

    Raises:
        HeirloomError: the corpus is empty, or shorter than one step.
    """
    planned = _of_preferences if settings.objective == "dpo" else _of_texts
    return planned(settings, corpus, tokenizer, human_only, seed)


def eval_blocks(settings: TransformerTraining, tokenizer: Any, heldout: Sequence[Text]) -> PackedDataset | None:  # noqa: ANN401
    """What the held-out loss is measured on, where it steers the training.

    Raises:
        HeirloomError: there is less of it than one block.
    """
    if not settings.load_best_model_at_end:
        return None
    blocks = PackedDataset.from_texts(tokenizer, heldout, settings.context_length)
    if not len(blocks):
        raise HeirloomError(
            f"load_best_model_at_end measures on held-out text, and all held-out text is shorter than one block of {settings.context_length} tokens; "
            "ingest more, or set train.load_best_model_at_end = false"
        )
    return blocks


def _of_texts(
    settings: TransformerTraining,
    corpus: TrainingCorpus,
    tokenizer: Any,  # noqa: ANN401
    human_only: bool,
    seed: int,
) -> TrainPlan:
    _refuse_empty([*corpus.human, *corpus.synthetic])
    context, packed = settings.context_length, settings.packing
    human = pack_sequences(tokenizer, corpus.human, context, seed, corpus.human_weights, packed)
    synthetic = pack_sequences(tokenizer, corpus.synthetic, context, seed + 1, corpus.synthetic_weights, packed)
    a_pass = human.blocks + synthetic.blocks
    if a_pass < settings.batch_size:
        unit = f"sequences of {settings.context_length} tokens" if settings.packing else "records"
        raise HeirloomError(
            f"the corpus is shorter than one step: it fills {a_pass:.4g} {unit}, and a step takes {settings.batch_size}; "
            "lower train.batch_size or train.context_length, or give it more text"
        )
    steps = _steps(settings, human_only, a_pass, (human.tokens + synthetic.tokens) / a_pass)
    shares = schedule_human_blocks(
        settings.human_ratio_schedule, human.blocks, synthetic.blocks, steps * settings.batch_size
    )
    blocks = [(human if is_human else synthetic).next_block() for is_human in shares]
    return TrainPlan(PackedDataset(blocks), [len(block) for block in blocks], shares, settings.batch_size)


def _of_preferences(
    settings: TransformerTraining,
    corpus: TrainingCorpus,
    tokenizer: Any,  # noqa: ANN401
    human_only: bool,
    seed: int,
) -> TrainPlan:
    pairs = [pair for pair in corpus.preferences if pair.weight > 0]
    _refuse_empty(pairs)
    a_pass = sum(pair.weight for pair in pairs)
    if a_pass < settings.batch_size:
        raise HeirloomError(
            f"the corpus is shorter than one step: it has {a_pass:.4g} pairs, and a step takes "
            f"{settings.batch_size}; lower train.batch_size, or give it more pairs"
        )
    rows, sizes = [], []
    for pair in pairs:
        prompt, chosen = tokenize_pair(tokenizer, pair.prompt, pair.chosen)
        rejected = tokenize_pair(tokenizer, "", pair.rejected)[1]
        prompt = truncate_prompt(prompt, max(len(chosen), len(rejected)), settings.context_length)
        room = settings.context_length - len(prompt)
        rows.append({"prompt_ids": prompt, "chosen_ids": chosen[:room], "rejected_ids": rejected[:room]})
        sizes.append(2 * len(prompt) + len(chosen[:room]) + len(rejected[:room]))
    tokens_a_pass = sum(pair.weight * size for pair, size in zip(pairs, sizes, strict=True))
    steps = _steps(settings, human_only, a_pass, tokens_a_pass / a_pass)
    order, dice = list[int](), random.Random(seed)  # noqa: S311  (a shuffle, not a secret)
    while len(order) < steps * settings.batch_size:
        drawn = repeat_by_weight([pair.weight for pair in pairs], dice)
        order += dice.sample(drawn, len(drawn))
    order = order[: steps * settings.batch_size]
    human = [pairs[place].human for place in order]
    return TrainPlan([rows[place] for place in order], [sizes[place] for place in order], human, settings.batch_size)


def _refuse_empty(texts: Sequence[object]) -> None:
    if not texts:
        raise HeirloomError("the corpus is empty: there is nothing to learn from")


def _steps(settings: TransformerTraining, human_only: bool, a_pass: float, tokens_a_row: float) -> int:
    """Steps that the settings ask for, where one pass has so many rows."""
    if settings.num_epochs:
        return max(1, math.ceil(settings.num_epochs * a_pass / settings.batch_size))
    if settings.max_tokens:
        return max(1, int(settings.max_tokens / (tokens_a_row * settings.batch_size)))
    return settings.generation_0_max_steps if human_only else settings.max_steps
