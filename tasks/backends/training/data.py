"""Tokenize and pack training texts, and plan the order of human and synthetic blocks.

With packing, texts are shuffled each epoch, joined with their begin and end tokens, and cut into blocks without
padding. Without, each text is a block, truncated to the context. A token without loss, such as one of a prompt, is
stored as its complement, -1 - token.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from heirloom.errors import HeirloomError
from tasks.backends.models.chat_template import ChatTemplate, TokenPair, encode_texts, refusal_error
from tasks.backends.models.tokenization import tokenize_texts
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.types import PreferencePair, Text, TrainingCorpus

IGNORE_INDEX = -100
"""Label of a token without loss, as torch and transformers define it."""


class PackedDataset(Dataset[dict[str, list[int]]]):
    """Blocks in training order, as rows for transformers' Trainer."""

    def __init__(self, blocks: list[list[int]]) -> None:
        self._blocks = blocks

    @classmethod
    def from_texts(cls, tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text], context: int) -> "PackedDataset":
        """Pack texts in their order, without the last incomplete block, to evaluate the held-out loss on."""
        flat = [token for rows in _tokens(tokenizer, texts) for ids in rows for token in ids]
        return cls([flat[start : start + context] for start in range(0, len(flat) - context + 1, context)])

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        block = self._blocks[index]
        if min(block) >= 0:
            return {"input_ids": block, "labels": block}
        return {
            "input_ids": [token if token >= 0 else -1 - token for token in block],
            "labels": [token if token >= 0 else IGNORE_INDEX for token in block],
        }

    def tokens(self, num_blocks: int) -> int:
        """Return the number of tokens of the first blocks."""
        return sum(map(len, self._blocks[:num_blocks]))


class _Stream:
    """An endless stream of blocks: epochs over the same texts, each in a new order."""

    def __init__(self, documents: list[list[int]], blocks: "BlockFormat", seed: int, weights: Sequence[float]) -> None:
        context, packed = blocks.length, blocks.packed
        self._documents = documents if packed else [_truncate_row(document, context) for document in documents]
        self._context, self._packed = context, packed
        self._rng = random.Random(seed)  # noqa: S311  (a shuffle, not a secret)
        self._weights = list(weights) if set(weights) - {1.0} else []
        self._waiting: list[list[int]] = []
        self._rest: list[int] = []
        self._at = 0
        counted = self._weights or [1.0] * len(documents)
        self.tokens = round(sum(weight * len(one) for weight, one in zip(counted, self._documents, strict=True)))
        self.blocks = self.tokens / context if packed else sum(counted)
        """Mean number of blocks in one epoch."""

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
        """Return the texts of one epoch: each once, or as often as its weight requires."""
        if not self._weights:
            self._rng.shuffle(self._documents)
            return self._documents
        drawn = [self._documents[place] for place in repeat_by_weight(self._weights, self._rng)]
        self._rng.shuffle(drawn)
        return drawn


def repeat_by_weight(weights: Sequence[float], rng: random.Random) -> list[int]:
    """Return the indices of one epoch: each floor(weight) times, and once more with the rest as probability."""
    indices = []
    for index, weight in enumerate(weights):
        rest, count = math.modf(weight)
        indices += [index] * (int(count) + (rest > 0 and rng.random() < rest))
    return indices


@dataclass(frozen=True)
class BlockFormat:
    """The blocks of a stream: `length` tokens each, or, without packing, one text of at most so many."""

    length: int
    packed: bool = True


def pack_sequences(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[Text],
    blocks: BlockFormat,
    seed: int,
    weights: Sequence[float] = (),
) -> _Stream:
    """Return an endless stream of blocks. Texts of weight 0 are left out."""
    seen = [place for place in range(len(texts)) if not weights or weights[place] > 0]
    rows_of_texts = _tokens(tokenizer, [texts[place] for place in seen])
    documents = [row for rows in rows_of_texts for row in rows]
    if weights:
        weights = [weights[place] for place, rows in zip(seen, rows_of_texts, strict=True) for _ in rows]
    return _Stream(documents, blocks, seed, weights)


def schedule_human_blocks(schedule: str, human_tokens: float, synthetic_tokens: float, blocks: int) -> list[bool]:
    """Return for each block of a training whether it is human.

    `constant` keeps the share of human tokens in the corpus; `ramp` raises it from 0 to 1. Rounding errors are carried
    from block to block, so every prefix has its share to within one block.
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


def tokenize_pair(tokenizer: PreTrainedTokenizerFast, prompt: str, response: str) -> tuple[list[int], list[int]]:
    """Tokenize a prompt, with its begin token, as samplers do, and a response, with its end token."""
    prompt_ids, response_ids = tokenize_texts(tokenizer, [prompt, response])
    return [tokenizer.bos_token_id, *prompt_ids], [*response_ids, tokenizer.eos_token_id]


def truncate_prompt(prompt: list[int], response_length: int, context: int) -> list[int]:
    """Truncate a prompt after its begin token, so that the response fits into the context, or gets half of it."""
    room = max(context - response_length, context // 2)
    return prompt if len(prompt) <= room else [prompt[0], *prompt[len(prompt) - room + 1 :]]


def _truncate_row(document: list[int], context: int) -> list[int]:
    """Truncate a text to one row: first its prompt, then its response."""
    prompt = list(takewhile(lambda token: token < 0, document))
    answer = document[len(prompt) :]
    return [*truncate_prompt(prompt, len(answer), context), *answer][:context]


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text]) -> list[list[list[int]]]:
    """Return the rows of each text, in which a token without loss is stored as its complement."""
    return [
        [
            row.ids
            if all(row.mask)
            else [token if counted else -1 - token for token, counted in zip(row.ids, row.mask, strict=True)]
            for row in rows
        ]
        for rows in encode_texts(tokenizer, texts)
    ]


@dataclass(frozen=True)
class TrainPlan:
    """Rows in training order, with the number of tokens of each and whether it is human."""

    rows: Any
    """A PackedDataset, or tokenized preference pairs."""
    sizes: list[int]
    human: list[bool]
    batch: int

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return len(self.sizes) // self.batch

    def tokens_seen(self, steps: int) -> tuple[int, int]:
        """Return the number of tokens, and of human tokens, of the first steps."""
        rows = list(zip(self.sizes, self.human, strict=True))[: steps * self.batch]
        return sum(size for size, _ in rows), sum(size for size, human in rows if human)


def build_train_plan(
    settings: TransformerTraining,
    corpus: TrainingCorpus,
    tokenizer: PreTrainedTokenizerFast,
    human_only: bool,
    seed: int,
) -> TrainPlan:
    """Tokenize a corpus for the objective, and order its rows for all steps.

    Args:
        settings: Objective, steps and batch size.
        corpus: Texts or preference pairs.
        tokenizer: Tokenizer of the model.
        human_only: Whether this is generation 0, which has its own number of steps.
        seed: Seed of the shuffle.

    Raises:
        HeirloomError: the corpus is empty, or too small for one step.
    """
    build = _plan_preferences if settings.objective == "dpo" else _plan_texts
    return build(settings, corpus, tokenizer, human_only, seed)


def eval_blocks(
    settings: TransformerTraining, tokenizer: PreTrainedTokenizerFast, heldout: Sequence[Text]
) -> PackedDataset | None:
    """Pack the held-out texts, or return None if the settings do not evaluate during training.

    Raises:
        HeirloomError: the texts fill less than one block.
    """
    if not settings.load_best_model_at_end:
        return None
    blocks = PackedDataset.from_texts(tokenizer, heldout, settings.context_length)
    if not len(blocks):
        raise HeirloomError(
            f"train.load_best_model_at_end evaluates on held-out text, which is shorter than one block of "
            f"{settings.context_length} tokens. Ingest more, or set train.load_best_model_at_end = false."
        )
    return blocks


def _plan_texts(
    settings: TransformerTraining,
    corpus: TrainingCorpus,
    tokenizer: PreTrainedTokenizerFast,
    human_only: bool,
    seed: int,
) -> TrainPlan:
    _require_nonempty([*corpus.human, *corpus.synthetic])
    blocks = BlockFormat(settings.context_length, settings.packing)
    human = pack_sequences(tokenizer, corpus.human, blocks, seed, corpus.human_weights)
    synthetic = pack_sequences(tokenizer, corpus.synthetic, blocks, seed + 1, corpus.synthetic_weights)
    epoch_rows = human.blocks + synthetic.blocks
    if epoch_rows < settings.batch_size:
        unit = f"sequences of {settings.context_length} tokens" if settings.packing else "records"
        raise HeirloomError(
            f"The corpus is too small for one step: it fills {epoch_rows:.4g} {unit}, and a step takes "
            f"{settings.batch_size}. Lower train.batch_size or train.context_length, or add text."
        )
    steps = _steps(settings, human_only, epoch_rows, (human.tokens + synthetic.tokens) / epoch_rows)
    shares = schedule_human_blocks(
        settings.human_ratio_schedule, human.blocks, synthetic.blocks, steps * settings.batch_size
    )
    rows = [(human if is_human else synthetic).next_block() for is_human in shares]
    return TrainPlan(PackedDataset(rows), [len(row) for row in rows], shares, settings.batch_size)


def _plan_preferences(
    settings: TransformerTraining,
    corpus: TrainingCorpus,
    tokenizer: PreTrainedTokenizerFast,
    human_only: bool,
    seed: int,
) -> TrainPlan:
    pairs = [pair for pair in corpus.preferences if pair.weight > 0]
    _require_nonempty(pairs)
    epoch_rows = sum(pair.weight for pair in pairs)
    if epoch_rows < settings.batch_size:
        raise HeirloomError(
            f"The corpus is too small for one step: it has {epoch_rows:.4g} pairs, and a step takes "
            f"{settings.batch_size}. Lower train.batch_size, or add pairs."
        )
    rows, sizes = [], []
    for pair in _tokenize_preferences(tokenizer, pairs):
        longest = max(len(pair.chosen), len(pair.rejected))
        prompt = truncate_prompt(pair.prompt, longest, settings.context_length)
        room = settings.context_length - len(prompt)
        rows.append({"prompt_ids": prompt, "chosen_ids": pair.chosen[:room], "rejected_ids": pair.rejected[:room]})
        sizes.append(2 * len(prompt) + len(pair.chosen[:room]) + len(pair.rejected[:room]))
    epoch_tokens = sum(pair.weight * size for pair, size in zip(pairs, sizes, strict=True))
    steps = _steps(settings, human_only, epoch_rows, epoch_tokens / epoch_rows)
    order, rng = list[int](), random.Random(seed)  # noqa: S311  (a shuffle, not a secret)
    while len(order) < steps * settings.batch_size:
        drawn = repeat_by_weight([pair.weight for pair in pairs], rng)
        order += rng.sample(drawn, len(drawn))
    order = order[: steps * settings.batch_size]
    human = [pairs[place].human for place in order]
    return TrainPlan([rows[place] for place in order], [sizes[place] for place in order], human, settings.batch_size)


def _tokenize_preferences(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[PreferencePair]) -> list[TokenPair]:
    template = ChatTemplate(tokenizer) if any(pair.chat for pair in pairs) else None
    tokenized, refusals = [], []
    for pair in pairs:
        if pair.chat and template and template.exists:
            try:
                tokenized.append(template.encode_pair(pair.chat.prompt, pair.chat.chosen, pair.chat.rejected))
            except HeirloomError as error:
                refusals.append(str(error))
            continue
        prompt, chosen = tokenize_pair(tokenizer, pair.prompt, pair.chosen)
        tokenized.append(TokenPair(prompt, chosen, tokenize_pair(tokenizer, "", pair.rejected)[1]))
    if refusals:
        raise refusal_error(refusals, len(pairs))
    return tokenized


def _require_nonempty(texts: Sequence[object]) -> None:
    if not texts:
        raise HeirloomError("The corpus is empty. Training needs at least one text or pair.")


def _steps(settings: TransformerTraining, human_only: bool, epoch_rows: float, tokens_per_row: float) -> int:
    """Return the number of steps, for a corpus of `epoch_rows` rows with `tokens_per_row` tokens on average."""
    if settings.num_epochs:
        return max(1, math.ceil(settings.num_epochs * epoch_rows / settings.batch_size))
    if settings.max_tokens:
        return max(1, int(settings.max_tokens / (tokens_per_row * settings.batch_size)))
    return settings.generation_0_max_steps if human_only else settings.max_steps
