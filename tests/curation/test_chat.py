import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.chat import Message, parse_chat_text, parse_messages, render_chat, responses_with_context, to_messages

_ROLES = st.sampled_from(["user", "assistant", "system", "### tool"])
_TURN_TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(["### ", "\\### ", "\n", "\n\n", "x", "\\"])).map("".join))


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def test_a_conversation_is_rendered_with_a_header_for_each_turn() -> None:
    assert render_chat(to_messages("What is rain?", "Water that falls.")) == (
        "### user\nWhat is rain?\n\n### assistant\nWater that falls."
    )


@given(st.lists(st.builds(_turn, _ROLES, _TURN_TEXTS), min_size=1, max_size=5))
def test_what_was_rendered_can_be_parsed(turns: list[Message]) -> None:
    assert parse_chat_text(render_chat(turns)) == turns


def test_both_shapes_of_conversations_are_read() -> None:
    expected = [_turn("user", "hi"), _turn("assistant", "hello")]
    assert parse_messages(expected) == expected
    assert parse_messages([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "not a conversation"),
        (["hi"], "not a conversation"),
        ([{"content": "hi"}], "a message without a role"),
        ([{"role": "a\nb", "content": "hi"}], "a message without a role"),
        ([{"role": "user", "content": None}], "a message without text"),
        ([{"role": "user", "content": [{"type": "text"}]}], "a message without text"),
        ([{"role": "user", "content": []}], "a message without text"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}], "a message without text"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": " \n\u200b"}], "a message without text"),
        ([{"from": "human", "value": ""}, {"from": "gpt", "value": "so"}], "a message without text"),
        (
            [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}],
            "a message with tool calls, which cannot be stored",
        ),
        (
            [{"from": "function_call", "value": "f()"}],
            "a message with tool calls, which cannot be stored",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}],
            "a message with a part of type 'image_url', which cannot be stored",
        ),
        ([{"role": "narrator", "content": "hi"}], "a message of the unknown role 'narrator'"),
    ],
)
def test_what_is_no_conversation_has_its_reason(value: list[object], reason: str) -> None:
    assert parse_messages(value) == reason


@pytest.mark.parametrize("role", ["assistant", "Assistant", "ASSISTANT", " gpt", "model", "bot", "chatgpt", "AI"])
def test_an_assistant_has_one_role_whatever_the_source_calls_it(role: str) -> None:
    expected = [_turn("user", "hi"), _turn("assistant", "hello")]
    assert parse_messages([{"role": "User", "content": "hi"}, {"role": role, "content": "hello"}]) == expected
    assert parse_messages([{"from": "human", "value": "hi"}, {"from": role, "value": "hello"}]) == expected


def test_fields_that_arrow_fills_with_nulls_count_as_absent() -> None:
    empty = dict.fromkeys(("role", "content", "from", "value", "tool_calls"))
    rows = [empty | {"from": "human", "value": "hi"}, empty | {"role": "assistant", "content": "hello"}]
    assert parse_messages(rows) == [_turn("user", "hi"), _turn("assistant", "hello")]


def test_text_parts_of_a_message_are_joined_by_line_breaks() -> None:
    parts = [{"type": "text", "text": "one", "image_url": None}, {"type": "input_text", "text": "two"}, "three"]
    assert parse_messages([{"role": "user", "content": parts}]) == [_turn("user", "one\ntwo\nthree")]


def test_system_messages_and_tool_results_may_be_empty() -> None:
    messages = [_turn("system", ""), _turn("user", "hi"), _turn("tool", ""), _turn("assistant", "hello")]
    assert parse_messages(messages) == messages


@pytest.mark.parametrize("text", ["plain", "### user", "### user\nhi\n\n### assistant"])
def test_what_was_not_rendered_cannot_be_parsed(text: str) -> None:
    with pytest.raises(ValueError, match=r"rendered conversation|has no content"):
        parse_chat_text(text)


def test_every_response_comes_with_all_turns_before_it() -> None:
    turns = [_turn("user", "a"), _turn("assistant", "### b"), _turn("user", "c"), _turn("assistant", "d")]
    found = responses_with_context(turns)
    assert [prompt + response for prompt, response in found] == [render_chat(turns[:2]), render_chat(turns)]
    assert [response for _, response in found] == ["\\### b", "d"]


def test_an_answer_to_nothing_is_none() -> None:
    assert responses_with_context([_turn("assistant", "a"), _turn("user", "b")]) == []
