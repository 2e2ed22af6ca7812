import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.chat import Turn, as_turns, parse, read_turns, render, responses

_ROLES = st.sampled_from(["user", "assistant", "system", "### tool"])
_SAID = st.one_of(st.text(), st.lists(st.sampled_from(["### ", "\\### ", "\n", "\n\n", "x", "\\"])).map("".join))


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def test_a_conversation_is_rendered_with_a_header_for_each_turn() -> None:
    assert render(as_turns("What is rain?", "Water that falls.")) == (
        "### user\nWhat is rain?\n\n### assistant\nWater that falls."
    )


@given(st.lists(st.builds(_turn, _ROLES, _SAID), min_size=1, max_size=5))
def test_what_was_rendered_can_be_parsed(turns: list[Turn]) -> None:
    assert parse(render(turns)) == turns


def test_both_shapes_of_conversations_are_read() -> None:
    expected = [_turn("user", "hi"), _turn("assistant", "hello")]
    assert read_turns(expected) == expected
    assert read_turns([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "not a conversation"),
        (["hi"], "not a conversation"),
        ([{"content": "hi"}], "a message without a role"),
        ([{"role": "a\nb", "content": "hi"}], "a message without a role"),
        ([{"role": "user", "content": None}], "a message without text"),
        ([{"role": "user", "content": [{"type": "text"}]}], "a message without text"),
    ],
)
def test_what_is_no_conversation_has_its_reason(value: list[object], reason: str) -> None:
    assert read_turns(value) == reason


@pytest.mark.parametrize("text", ["plain", "### user", "### user\nhi\n\n### assistant"])
def test_what_was_not_rendered_cannot_be_parsed(text: str) -> None:
    with pytest.raises(ValueError, match=r"rendered conversation|has no text line"):
        parse(text)


def test_every_answer_comes_with_all_that_was_said_before_it() -> None:
    turns = [_turn("user", "a"), _turn("assistant", "### b"), _turn("user", "c"), _turn("assistant", "d")]
    found = responses(turns)
    assert [prompt + response for prompt, response in found] == [render(turns[:2]), render(turns)]
    assert [response for _, response in found] == ["\\### b", "d"]


def test_an_answer_to_nothing_is_none() -> None:
    assert responses([_turn("assistant", "a"), _turn("user", "b")]) == []
