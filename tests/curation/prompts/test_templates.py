import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.prompts.templates import (
    TEMPLATES,
    attribute_grid,
    grid_counts,
    grid_shares,
    placeholders,
    question_of,
    render_template,
    validate_template,
)
from heirloom.chat import Conversation, Message, to_messages

GRID = {
    "subject": ["river", "garden", "letter", "winter", "village"],
    "format": ["list", "story", "note", "poem"],
    "length": ["short", "middle", "long"],
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_shipped_templates_have_slots_that_are_filled(name: str) -> None:
    validate_template(TEMPLATES[name], {"persona": ["a sailor"]} if name == "persona" else {})
    assert placeholders(TEMPLATES[name])


def test_a_template_is_filled_and_braces_inside_values_are_left() -> None:
    assert (
        render_template("A {format} about {subject}: {{}}", {"format": "list", "subject": "{x}"})
        == "A list about {x}: {}"
    )


@pytest.mark.parametrize(
    ("template", "attributes", "message"),
    [
        ("about {subject}", {}, "Unknown placeholder {subject}"),
        ("about {record}", {"subject": ["a"]}, "no placeholder {subject}"),
        ("about {subject}", {"subject": []}, "It needs at least one"),
        ("about {subject}", {"subject": ["a", "a"]}, "has the value 'a' 2 times"),
        ("about {}", {}, "A placeholder is a name in braces"),
        ("about {0}", {}, "A placeholder is a name in braces"),
        ("about {subject", {"subject": ["a"]}, "expected '}'"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(
    template: str, attributes: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("}", r"\}")):
        validate_template(template, attributes)


def test_a_grid_has_every_cell_once_and_equal_quotas() -> None:
    shares = grid_shares(GRID, {})
    assert len(attribute_grid(GRID)) == len(shares) == 60
    assert set(grid_counts(600, shares, {}).values()) == {10}
    asked = grid_counts(100, shares, {})
    assert sum(asked.values()) == 100
    assert set(asked.values()) == {1, 2}


def test_weights_make_a_value_more_frequent() -> None:
    shares = grid_shares({"tone": ["plain", "odd"], "form": ["a", "b"]}, {"tone": {"odd": 3}})
    assert grid_counts(80, shares, {}) == {("plain", "a"): 10, ("plain", "b"): 10, ("odd", "a"): 30, ("odd", "b"): 30}


def test_what_was_delivered_short_is_asked_for_again() -> None:
    shares = grid_shares({"tone": ["plain", "odd"]}, {})
    assert grid_counts(10, shares, {("plain",): 5, ("odd",): 1}) == {("plain",): 3, ("odd",): 7}
    assert grid_counts(4, shares, {("plain",): 50, ("odd",): 1}) == {("plain",): 0, ("odd",): 4}


@given(
    st.integers(1, 300),
    st.lists(st.integers(0, 40), min_size=12, max_size=12),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(0.1, 5), max_size=3),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_the_prompts_of_all_cells_are_as_many_as_were_asked(
    count: int, survivors: list[int], weights: dict[str, float]
) -> None:
    grid = {"one": ["a", "b", "c"], "two": ["d", "e", "f", "g"]}
    shares = grid_shares(grid, {"one": weights})
    delivered = dict(zip(attribute_grid(grid), survivors, strict=True))
    asked = grid_counts(count, shares, delivered)
    assert sum(asked.values()) == count
    assert min(asked.values()) >= 0
    assert sum(shares.values()) == pytest.approx(1)


def test_without_attributes_there_is_one_cell() -> None:
    assert grid_counts(7, grid_shares({}, {}), {}) == {(): 7}


def test_a_question_is_the_first_turn_of_a_conversation_or_all_of_another_text() -> None:
    messages: list[Message] = [{"role": "system", "content": "Be brief."}, *to_messages("What is rain?", "Water.")]
    assert question_of("the text", Conversation(messages=messages)) == "What is rain?"
    assert question_of("A letter.", None) == "A letter."


def test_a_grid_of_sixty_cells_is_delivered_exactly_after_losses_are_topped_up() -> None:
    shares, rng = grid_shares(GRID, {}), random.Random(0)
    delivered = dict.fromkeys(shares, 0)
    for lost in (0.5, 0.3, 0.0):
        asked = grid_counts(600, shares, delivered)
        for cell, times in asked.items():
            delivered[cell] += sum(rng.random() >= lost for _ in range(times))
    total = sum(delivered.values())
    assert total > 1200
    assert max(delivered.values()) - min(delivered.values()) <= 1
