from typing import Any

import pytest

pytest.importorskip("torch", reason="blocks are torch's datasets")

from tasks.backends import PreferencePair, TrainingCorpus, TransformerTraining
from tasks.backends.training.data import IGNORE_INDEX, TrainPlan, build_train_plan, eval_blocks
from tests.tasks.backends.training.test_data import _BEGIN, _END, _Letters

_SETTINGS = TransformerTraining(context_length=16, batch_size=2, max_steps=6, generation_0_max_steps=4)
_TEXTS = ["abcdef", "ghi", "jklmnopq", "rs"] * 5


def _plan(corpus: TrainingCorpus, human_only: bool = False, **more: Any) -> TrainPlan:
    settings = TransformerTraining.model_validate({**_SETTINGS.model_dump(), **more})
    return build_train_plan(settings, corpus, _Letters(), human_only, 0)


def test_steps_are_those_of_the_settings() -> None:
    corpus = TrainingCorpus(_TEXTS, _TEXTS)
    assert (_plan(corpus).steps, _plan(corpus, human_only=True).steps) == (6, 4)


def test_epochs_are_passes_over_the_corpus() -> None:
    # 20 texts with 95 letters, their begins and ends: 135 tokens, or 8.4 blocks of 16.
    assert _plan(TrainingCorpus(_TEXTS, []), num_epochs=4).steps == 17
    assert _plan(TrainingCorpus(_TEXTS, _TEXTS), num_epochs=4).steps == 34


def test_a_token_budget_is_the_same_for_every_corpus() -> None:
    for corpus in (TrainingCorpus(_TEXTS, []), TrainingCorpus(_TEXTS * 3, _TEXTS)):
        plan = _plan(corpus, max_tokens=1000)
        assert plan.tokens_seen(plan.steps)[0] == 1000 // 32 * 32


def test_human_tokens_are_counted_up_to_the_step_that_was_reached() -> None:
    plan = _plan(TrainingCorpus(_TEXTS, _TEXTS), human_ratio_schedule="ramp")
    assert plan.tokens_seen(1) == (32, 0)
    assert plan.tokens_seen(6)[1] == 16 * sum(plan.human)


def test_a_response_is_learned_and_its_prompt_is_read() -> None:
    plan = _plan(TrainingCorpus([("abc", "de")] * 8, []), packing=False)
    row = plan.rows[0]
    assert row["input_ids"] == [_BEGIN, 97, 98, 99, 100, 101, _END]
    assert row["labels"] == [IGNORE_INDEX] * 4 + [100, 101, _END]
    assert plan.sizes == [7] * 12


def test_weights_say_how_often_a_text_is_seen() -> None:
    corpus = TrainingCorpus(["a", "b", "c"], [], human_weights=[2.0, 1.0, 0.0])
    plan = _plan(corpus, packing=False, num_epochs=20)
    seen = [plan.rows[place]["input_ids"][1] for place in range(60)]
    assert (seen.count(97), seen.count(98), seen.count(99)) == (40, 20, 0)


def test_half_a_weight_is_every_other_pass_on_average() -> None:
    corpus = TrainingCorpus(["a", "b"], [], human_weights=[0.5, 1.5])
    plan = _plan(corpus, packing=False, num_epochs=300)
    seen = [row["input_ids"][1] for row in (plan.rows[place] for place in range(600))]
    # Four standard deviations of 300 draws at one half.
    assert abs(seen.count(97) - 150) < 4 * 75**0.5


def test_preferences_come_pass_after_pass_each_once() -> None:
    pairs = [PreferencePair(letter, "yes", "no", human=letter < "c") for letter in "abcd"]
    plan = _plan(
        TrainingCorpus([], [], preferences=pairs),
        objective="dpo",
        init_from="base",
        optimizer="adamw",
        learning_rate=0.001,
    )
    prompts = [row["prompt_ids"][1] for row in plan.rows]
    assert [sorted(prompts[start : start + 4]) for start in (0, 4, 8)] == [[97, 98, 99, 100]] * 3
    assert plan.rows[0]["chosen_ids"][-1] == plan.rows[0]["rejected_ids"][-1] == _END
    assert plan.sizes == [2 * 2 + 4 + 3] * 12
    assert plan.tokens_seen(6) == (12 * 11, 6 * 11)


_DPO = {"objective": "dpo", "init_from": "base", "optimizer": "adamw", "learning_rate": 0.001}


def test_the_weight_of_a_pair_is_how_often_it_is_seen() -> None:
    pairs = [
        PreferencePair(letter, "yes", "no", True, weight) for letter, weight in zip("abc", (2.0, 1.0, 0.0), strict=True)
    ]
    plan = _plan(TrainingCorpus([], [], preferences=pairs), num_epochs=20, **_DPO)
    seen = [row["prompt_ids"][1] for row in plan.rows]
    assert (seen.count(97), seen.count(98), seen.count(99)) == (40, 20, 0)


@pytest.mark.parametrize("letters", [14, 15, 40])
def test_a_prompt_leaves_room_for_both_answers_and_keeps_its_begin(letters: int) -> None:
    pair = PreferencePair("x" * (letters - 2) + "yz", "good", "evil!", True)
    row = _plan(TrainingCorpus([], [], preferences=[pair] * 2), **_DPO).rows[0]
    assert row["prompt_ids"][0] == _BEGIN and row["prompt_ids"][-2:] == [121, 122]
    assert row["chosen_ids"] == [*map(ord, "good"), _END] and row["rejected_ids"] == [*map(ord, "evil!"), _END]
    assert len(row["prompt_ids"]) == 16 - 6


def test_of_answers_that_fit_nowhere_what_is_read_is_counted() -> None:
    pair = PreferencePair("x" * 40, "a" * 40, "b" * 40, True)
    plan = _plan(TrainingCorpus([], [], preferences=[pair] * 2), max_tokens=640, **_DPO)
    assert [len(plan.rows[0][name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")] == [8, 8, 8]
    assert plan.sizes == [32] * 20 and plan.tokens_seen(plan.steps)[0] == 640


@pytest.mark.parametrize("letters", [9, 15, 40])
def test_a_prompt_gives_way_to_its_response(letters: int) -> None:
    plan = _plan(TrainingCorpus([("x" * letters, "abcdef")] * 4, []), objective="sft", packing=False)
    row = plan.rows[0]
    assert len(row["input_ids"]) == 16 and row["input_ids"][0] == _BEGIN
    assert row["labels"] == [IGNORE_INDEX] * 9 + [*map(ord, "abcdef"), _END]


def test_a_long_text_is_cut_at_its_end() -> None:
    row = _plan(TrainingCorpus(["abcdefghijklmnopqrstuvwxyz"] * 4, []), packing=False).rows[0]
    assert row["labels"] == [_BEGIN, *map(ord, "abcdefghijklmno")]


@pytest.mark.parametrize(
    ("corpus", "more", "message"),
    [
        (TrainingCorpus([], []), {}, "The corpus is empty"),
        (TrainingCorpus(["ab"], []), {}, r"fills 0.25 sequences of 16 tokens, and a step takes 2"),
        (TrainingCorpus(["ab"], []), {"packing": False}, r"fills 1 records, and a step takes 2"),
    ],
)
def test_a_corpus_that_fills_no_step_is_refused(corpus: TrainingCorpus, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _plan(corpus, **more)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="The corpus is empty"):
        _plan(TrainingCorpus(["abc"], []), **_DPO)
    with pytest.raises(ValueError, match="it has 1 pairs, and a step takes 2"):
        _plan(TrainingCorpus([], [], preferences=[PreferencePair("a", "b", "c", True)]), **_DPO)
    with pytest.raises(ValueError, match="The corpus is empty"):
        _plan(TrainingCorpus([], [], preferences=[PreferencePair("a", "b", "c", True, 0.0)]), **_DPO)


def test_held_out_text_is_cut_in_blocks_where_it_steers_and_nowhere_else() -> None:
    early = _SETTINGS.model_copy(update={"load_best_model_at_end": True})
    assert eval_blocks(_SETTINGS, _Letters(), _TEXTS) is None
    found = eval_blocks(early, _Letters(), _TEXTS)
    assert found is not None
    assert len(found) == 8
    with pytest.raises(ValueError, match="shorter than one block of 16 tokens"):
        eval_blocks(early, _Letters(), ["a"])
