import numpy as np
import pytest
from pydantic import ValidationError

from curation.embeddings.encoders import HashingEncoder
from curation.selection.topics import TopicSteeringSettings, find_topics

_ABOUT = {
    "river": [f"the river runs past bridge {n} and the water of the river rises" for n in range(30)],
    "bread": [f"we bake bread number {n} with flour and the bread smells of yeast" for n in range(10)],
}
_TEXTS = [text for texts in _ABOUT.values() for text in texts]
_VECTORS = HashingEncoder().encode(_TEXTS)


def test_records_that_are_about_the_same_share_a_topic_with_words_that_tell_it() -> None:
    found = find_topics(_TEXTS, _VECTORS, _VECTORS[:0], 2)
    assert len(set(found.assignment[:30].tolist())) == len(set(found.assignment[30:].tolist())) == 1
    river, bread = found.assignment[0], found.assignment[30]
    assert (found.human_count[river], found.human_count[bread]) == (30, 10)
    assert "river" in found.top_words[river]
    assert "bread" in found.top_words[bread]


def test_an_underrepresented_topic_gets_a_larger_prompt_share() -> None:
    nothing, rivers = (find_topics(_TEXTS, _VECTORS, generated, 2) for generated in (_VECTORS[:0], _VECTORS[:20]))
    bread = nothing.assignment[30]
    assert nothing.prompt_share[bread] == pytest.approx(10 / 40)
    assert rivers.synthetic_count.tolist().count(0) == 1
    # With twenty texts generated and twenty to come, ten of the forty are bread's.
    assert rivers.prompt_share[bread] == pytest.approx(10 / 20)
    assert rivers.prompt_share.sum() == pytest.approx(1)


def test_the_same_texts_have_the_same_topics() -> None:
    first, again = (find_topics(_TEXTS, _VECTORS, _VECTORS[:5], 3) for _ in range(2))
    assert np.array_equal(first.assignment, again.assignment)
    assert first.top_words == again.top_words


def test_fewer_records_than_topics_have_as_many_topics_as_records() -> None:
    assert len(find_topics(_TEXTS[:3], _VECTORS[:3], _VECTORS[:0], 8).prompt_share) == 3


def test_a_negative_number_of_topics_is_refused() -> None:
    with pytest.raises(ValidationError):
        TopicSteeringSettings(num_topics=-1)
