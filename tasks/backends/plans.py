"""What a training sees, in its order: how many steps, which rows, and which of them are human."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.backends import Corpus, Text, TransformerTraining
from tasks.backends.packing import Blocks, fitted, human_share_plan, often, packed_stream, spelled


@dataclass(frozen=True)
class Plan:
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

    def seen(self, steps: int) -> tuple[int, int]:
        """Tokens of the first so many steps, and how many of them are human."""
        rows = list(zip(self.sizes, self.human, strict=True))[: steps * self.batch]
        return sum(size for size, _ in rows), sum(size for size, human in rows if human)


def plan_of(settings: TransformerTraining, corpus: Corpus, tokenizer: Any, human_only: bool, seed: int) -> Plan:  # noqa: ANN401
    """What the objective makes of the corpus.

    Raises:
        ValueError: the corpus is empty, or shorter than one step.
    """
    planned = _of_preferences if settings.objective == "dpo" else _of_texts
    return planned(settings, corpus, tokenizer, human_only, seed)


def heldout_blocks(settings: TransformerTraining, tokenizer: Any, heldout: Sequence[Text]) -> Blocks | None:  # noqa: ANN401
    """What the held-out loss is measured on, where it steers the training.

    Raises:
        ValueError: there is less of it than one block.
    """
    if not settings.stop_early:
        return None
    blocks = Blocks.of_texts(tokenizer, heldout, settings.context)
    if not len(blocks):
        raise ValueError(
            f"stop_early measures on held-out text, and all held-out text is shorter than one block of {settings.context} tokens; "
            "ingest more, or set train.stop_early = false"
        )
    return blocks


def _of_texts(settings: TransformerTraining, corpus: Corpus, tokenizer: Any, human_only: bool, seed: int) -> Plan:  # noqa: ANN401
    _refuse_empty([*corpus.human, *corpus.synthetic])
    context, packed = settings.context, settings.packing
    human = packed_stream(tokenizer, corpus.human, context, seed, corpus.human_weights, packed)
    synthetic = packed_stream(tokenizer, corpus.synthetic, context, seed + 1, corpus.synthetic_weights, packed)
    a_pass = human.blocks + synthetic.blocks
    if a_pass < settings.batch:
        unit = f"sequences of {settings.context} tokens" if settings.packing else "records"
        raise ValueError(
            f"the corpus is shorter than one step: it fills {a_pass:.4g} {unit}, and a step takes {settings.batch}; "
            "lower train.batch or train.context, or give it more text"
        )
    steps = _steps(settings, human_only, a_pass, (human.tokens + synthetic.tokens) / a_pass)
    shares = human_share_plan(settings.human_schedule, human.blocks, synthetic.blocks, steps * settings.batch)
    blocks = [(human if is_human else synthetic).next_block() for is_human in shares]
    return Plan(Blocks(blocks), [len(block) for block in blocks], shares, settings.batch)


def _of_preferences(settings: TransformerTraining, corpus: Corpus, tokenizer: Any, human_only: bool, seed: int) -> Plan:  # noqa: ANN401
    pairs = [pair for pair in corpus.preferences if pair.weight > 0]
    _refuse_empty(pairs)
    a_pass = sum(pair.weight for pair in pairs)
    if a_pass < settings.batch:
        raise ValueError(
            f"the corpus is shorter than one step: it has {a_pass:.4g} pairs, and a step takes "
            f"{settings.batch}; lower train.batch, or give it more pairs"
        )
    rows, sizes = [], []
    for pair in pairs:
        prompt, chosen = spelled(tokenizer, pair.prompt, pair.chosen)
        rejected = spelled(tokenizer, "", pair.rejected)[1]
        prompt = fitted(prompt, max(len(chosen), len(rejected)), settings.context)
        room = settings.context - len(prompt)
        rows.append({"prompt_ids": prompt, "chosen_ids": chosen[:room], "rejected_ids": rejected[:room]})
        sizes.append(2 * len(prompt) + len(chosen[:room]) + len(rejected[:room]))
    tokens_a_pass = sum(pair.weight * size for pair, size in zip(pairs, sizes, strict=True))
    steps = _steps(settings, human_only, a_pass, tokens_a_pass / a_pass)
    order, dice = list[int](), random.Random(seed)  # noqa: S311  (a shuffle, not a secret)
    while len(order) < steps * settings.batch:
        drawn = often([pair.weight for pair in pairs], dice)
        order += dice.sample(drawn, len(drawn))
    order = order[: steps * settings.batch]
    human = [pairs[place].human for place in order]
    return Plan([rows[place] for place in order], [sizes[place] for place in order], human, settings.batch)


def _refuse_empty(texts: Sequence[object]) -> None:
    if not texts:
        raise ValueError("the corpus is empty: there is nothing to learn from")


def _steps(settings: TransformerTraining, human_only: bool, a_pass: float, tokens_a_row: float) -> int:
    """Steps that the settings ask for, where one pass has so many rows."""
    if settings.epochs:
        return max(1, math.ceil(settings.epochs * a_pass / settings.batch))
    if settings.token_budget:
        return max(1, int(settings.token_budget / (tokens_a_row * settings.batch)))
    return settings.human_only_steps if human_only else settings.steps
