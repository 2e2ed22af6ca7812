import itertools
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest

pytest.importorskip("torch", reason="blocks are torch's datasets")

from tasks.backends.training.data import BlockFormat, PackedDataset, pack_sequences, schedule_human_blocks

_BEGIN, _END = 1000, 1001


class _Letters:
    """A tokenizer in the shape of transformers': one token a letter."""

    bos_token_id, eos_token_id, unk_token_id = _BEGIN, _END, None
    added_tokens_decoder: ClassVar[dict[int, object]] = {}

    def __call__(
        self, texts: list[str], *, add_special_tokens: bool, split_special_tokens: bool
    ) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        assert split_special_tokens
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def _documents(tokens: Iterator[int]) -> Iterator[str]:
    text: list[str] = []
    for token in tokens:
        if token == _BEGIN:
            text = []
        elif token == _END:
            yield "".join(text)
        else:
            text.append(chr(token))


_TEXTS = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"]


@pytest.mark.parametrize("schedule", ["constant", "ramp"])
@pytest.mark.parametrize(("human", "synthetic"), [(1, 1), (1, 9), (300, 700), (999, 1), (1, 10_000)])
@pytest.mark.parametrize("blocks", [1, 2, 37, 1040])
def test_every_stretch_from_the_start_holds_its_share_to_within_one_block(
    schedule: str, human: int, synthetic: int, blocks: int
) -> None:
    plan = schedule_human_blocks(schedule, human, synthetic, blocks)
    assert len(plan) == blocks
    for length in range(1, blocks + 1):
        if schedule == "constant":
            due = length * human / (human + synthetic)
        else:
            due = sum(place / max(1, blocks - 1) for place in range(length))
        assert abs(sum(plan[:length]) - due) <= 0.5 + 1e-6


def test_a_ramp_runs_from_none_to_all_and_never_back() -> None:
    plan = schedule_human_blocks("ramp", 500, 500, 1000)
    shares = [sum(plan[start : start + 100]) for start in range(0, 1000, 100)]
    assert shares == sorted(shares)
    assert not any(plan[:10])
    assert all(plan[-10:])
    assert sum(plan) == 500


def test_a_ramp_does_not_ask_what_the_corpus_holds() -> None:
    assert schedule_human_blocks("ramp", 1, 999, 100) == schedule_human_blocks("ramp", 999, 1, 100)


@pytest.mark.parametrize("schedule", ["constant", "ramp"])
def test_a_corpus_of_one_origin_is_learned_from_that_origin_alone(schedule: str) -> None:
    assert schedule_human_blocks(schedule, 10, 0, 5) == [True] * 5
    assert schedule_human_blocks(schedule, 0, 10, 5) == [False] * 5


@pytest.mark.parametrize("context", [1, 7, 16, 100])
def test_blocks_of_a_stream_have_the_exact_length(context: int) -> None:
    stream = pack_sequences(_Letters(), _TEXTS, BlockFormat(context), 0)
    assert {len(stream.next_block()) for _ in range(50)} == {context}


def test_a_stream_is_endless_and_every_text_comes_once_a_pass() -> None:
    stream = pack_sequences(_Letters(), _TEXTS, BlockFormat(16), 0)
    tokens = itertools.chain.from_iterable(stream.next_block() for _ in itertools.count())
    rows = list(itertools.islice(_documents(tokens), 5 * len(_TEXTS)))
    passes = [rows[start : start + len(_TEXTS)] for start in range(0, len(rows), len(_TEXTS))]
    assert [Counter(one) for one in passes] == [Counter(_TEXTS)] * 5
    assert len({tuple(one) for one in passes}) > 1


def test_a_stream_follows_its_seed() -> None:
    def blocks(seed: int) -> list[list[int]]:
        stream = pack_sequences(_Letters(), _TEXTS, BlockFormat(16), seed)
        return [stream.next_block() for _ in range(20)]

    assert blocks(3) == blocks(3)
    assert blocks(3) != blocks(4)


def test_a_stream_knows_how_many_tokens_a_pass_has() -> None:
    assert pack_sequences(_Letters(), _TEXTS, BlockFormat(16), 0).tokens == sum(len(text) + 2 for text in _TEXTS)
    assert pack_sequences(_Letters(), [], BlockFormat(16), 0).tokens == 0


def test_full_blocks_of_texts_keep_their_order_and_leave_the_rest_out() -> None:
    blocks = PackedDataset.from_texts(_Letters(), ["abc", "de"], 4)
    assert len(blocks) == 2
    assert blocks[0]["input_ids"] == [_BEGIN, ord("a"), ord("b"), ord("c")]
    assert blocks[1]["input_ids"] == [_END, _BEGIN, ord("d"), ord("e")]


def test_a_block_is_its_own_label() -> None:
    block = PackedDataset([[1, 2, 3]])[0]
    assert block == {"input_ids": [1, 2, 3], "labels": [1, 2, 3]}
