import numpy as np
import pytest

from tasks.backends import Prompt, TrainingCorpus
from tasks.backends.toy.points import (
    BATCH,
    format_points,
    infer_decimals,
    nll_from_density,
    points_of,
    to_completions,
    training_points,
)


def test_a_point_travels_as_text_and_comes_back() -> None:
    points = np.array([[0.41234, -1.3], [-0.0001, 2.0]])
    assert format_points(points, 3) == ["0.412 -1.300", "0.000 2.000"]
    assert np.abs(points_of(format_points(points, 3)) - points).max() <= 0.0005
    assert infer_decimals(["0.41 -1", ("7", ".125")]) == 3
    assert infer_decimals(["12 7"]) == 0


def test_no_texts_are_no_points() -> None:
    assert points_of([]).shape == (0, 0)


@pytest.mark.parametrize(
    ("texts", "wanted"), [(["the old river"], "0.412 -1.305"), (["1 2", "3"], "2 numbers"), ([""], ""), (["nan 1"], "")]
)
def test_a_text_that_is_no_point_is_refused_and_shown(texts: list[str], wanted: str) -> None:
    with pytest.raises(ValueError, match="The backend expects texts of") as refused:
        points_of(texts)
    assert wanted in str(refused.value)
    assert repr(texts[-1]) in str(refused.value)


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(ValueError, match="The corpus is empty"):
        training_points(TrainingCorpus([], []))


def test_a_decimal_more_is_ten_times_as_surprising_in_each_direction() -> None:
    one, two = (nll_from_density(np.array([-1.0]), 2, decimals)[0] for decimals in (1, 2))
    assert two - one == pytest.approx(2 * np.log(10))


def test_a_point_stands_behind_an_opening_that_it_does_not_follow_from() -> None:
    reported: list[tuple[int, int]] = []
    prompts = [Prompt("", 0), *[Prompt("The old", seed) for seed in range(1, BATCH + 1)]]
    batches = to_completions(
        prompts,
        lambda batch: np.array([[prompt.seed, 2.04] for prompt in batch]),
        lambda points: points.sum(1),
        1,
        lambda done, of: reported.append((done, of)),
    )
    completions = [completion for batch in batches for completion in batch]
    assert (completions[0].text, completions[1].text, completions[-1].text) == ("0.0 2.0", " 1.0 2.0", " 256.0 2.0")
    # The surprise is that of what is written.
    assert (completions[1].completion_tokens, completions[1].sum_logprob) == (2, -3.0)
    assert reported == [(BATCH, BATCH + 1), (BATCH + 1, BATCH + 1)]
