import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heirloom.chat import (
    Conversation,
    Message,
    first_user_text,
    from_json,
    message_text,
    parse_chat_text,
    parse_conversation,
    parse_response,
    prompt_messages,
    render_chat,
    responses_with_context,
    to_json,
    to_messages,
)

_ROLES = st.sampled_from(["user", "assistant", "system", "### tool"])
_TURN_TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(["### ", "\\### ", "\n", "\n\n", "x", "\\"])).map("".join))


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def test_a_conversation_is_rendered_with_a_header_for_each_turn() -> None:
    assert render_chat(to_messages("What is rain?", "Water that falls.")) == (
        "### user\nWhat is rain?\n\n### assistant\nWater that falls."
    )


@pytest.mark.slow
@given(st.lists(st.builds(_turn, _ROLES, _TURN_TEXTS), min_size=1, max_size=5))
def test_what_was_rendered_can_be_parsed(turns: list[Message]) -> None:
    assert parse_chat_text(render_chat(turns)) == turns


def _parsed(messages: object, tools: object = None, *, think_tags: bool = False) -> list[Message] | str:
    parsed = parse_conversation(messages, tools, think_tags=think_tags)
    return parsed if isinstance(parsed, str) else list(parsed.messages)


def test_both_shapes_of_conversations_are_read() -> None:
    expected = [_turn("user", "hi"), _turn("assistant", "hello")]
    assert _parsed(expected) == expected
    assert _parsed([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]) == expected


_HI, _HELLO = _turn("user", "hi"), _turn("assistant", "hello")


def _call(arguments: object = "{}", call_id: str | None = "c1", **fields: object) -> dict[str, object]:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}, **fields}
    return call if call_id is None else {"id": call_id, **call}


def _calling(*calls: object) -> dict[str, object]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def _result(call_id: str | None = "c1", content: object = "4 degrees") -> dict[str, object]:
    return {"role": "tool", "content": content, **({} if call_id is None else {"tool_call_id": call_id})}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "not a conversation"),
        ("hi", "not a conversation"),
        (["hi"], "not a conversation"),
        ([{"content": "hi"}, _HELLO], "a message without a role"),
        ([{"role": "a\nb", "content": "hi"}], "a message without a role"),
        ([{"role": "narrator", "content": "hi"}, _HELLO], "a message of the unknown role 'narrator'"),
        ([{"role": "user", "content": None}, _HELLO], "a message without text"),
        ([{"role": "user", "content": [{"type": "text"}]}, _HELLO], "a message without text"),
        ([{"role": "user", "content": []}, _HELLO], "a message without text"),
        ([{"from": "human", "value": ""}, {"from": "gpt", "value": "so"}], "a message without text"),
        ([_HI, _turn("assistant", "")], "a message without text"),
        ([_HI, _turn("assistant", " \n\u200b")], "a message without text"),
        ([_HI, {"role": "assistant", "content": None, "reasoning": "hm"}], "a message without text"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}, _HELLO],
            "a message with a part of type 'image_url', which cannot be stored",
        ),
        ([_HI], "the last message is not the assistant's"),
        ([_HI, _HELLO, _HI], "the last message is not the assistant's"),
        ([_HELLO], "no message of a user"),
        ([_turn("system", "a"), _turn("system", "b"), _HI, _HELLO], "two system messages"),
        ([_turn("system", "a"), _turn("developer", "b"), _HI, _HELLO], "two system messages"),
        ([_HI, _turn("system", "a"), _HELLO], "a system message that is not the first one"),
        ([_HI, _turn("rejected", "no"), _HELLO], "a rejected response that is not the last message"),
        ([_HI, _turn("rejected", "no")], "a rejected response without a chosen one before it"),
        ([_HI, {**_HELLO, "tool_calls": {"id": "a"}}], "tool calls that are not a list"),
        ([_HI, _calling("f()")], "a tool call that is not an object"),
        ([_HI, _calling({"id": "a", "function": {"arguments": "{}"}})], "a tool call without the name of a tool"),
        ([_HI, _calling(_call("{city"))], "a tool call whose arguments are not JSON"),
        ([_HI, _calling(_call("[1]"))], "a tool call whose arguments are not an object"),
        ([_HI, _calling(_call(type="custom"))], "a tool call of type 'custom', which cannot be stored"),
        ([_HI, _calling(_call(call_id=None)), _result(), _HELLO], "a tool call without an id"),
        ([_HI, _calling({**_call(), "id": 7})], "a tool call whose id is not text"),
        ([_HI, _calling(_call(), _call()), _result(), _result(), _HELLO], "two tool calls with the same id"),
        ([_HI, _calling(_call()), _HI, _HELLO], "a tool call without a result"),
        ([_HI, _calling(_call()), _result("c2"), _HELLO], "a tool result without a tool call"),
        ([_HI, _result(None), _HELLO], "a tool result without a tool call"),
        ([_HI, _calling(_call()), _result(None), _HELLO], "a tool result without a tool_call_id"),
        ([_HI, _calling(_call()), _result(content=None), _HELLO], "a message without text"),
        ([{**_HI, "tool_calls": [_call()]}, _HELLO], "tool calls of the role 'user'"),
        ([{**_HI, "tool_call_id": "a"}, _HELLO], "a tool_call_id of the role 'user'"),
        ([{**_HI, "reasoning": "hm"}, _HELLO], "reasoning of the role 'user'"),
        ([_HI, {**_HELLO, "reasoning": ["hm"]}], "reasoning that is not text"),
        ([_HI, {**_HELLO, "reasoning": "a", "thinking": "b"}], "a message with two different reasonings"),
        ([_HI, {**_HELLO, "name": 7}], "a name that is not text"),
        ([_HI, {"from": "function_call", "value": "f()"}], "a tool call that is not JSON"),
    ],
)
def test_a_malformed_conversation_is_rejected_with_its_reason(value: object, reason: str) -> None:
    assert _parsed(value) == reason


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("[{", "tools that are not JSON"),
        ({"name": "f"}, "tools that are not a list"),
        ([{"type": "function"}], "a tool without a name"),
        (["f"], "tools that are not JSON"),
    ],
)
def test_malformed_tools_reject_their_conversation(tools: object, reason: str) -> None:
    assert _parsed([_HI, _HELLO], tools) == reason


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        "1e999",
        "NaN",
        "Infinity",
        datetime(2026, 1, 2, tzinfo=UTC),
        date(2026, 1, 2),
        Decimal("1.5"),
        b"x",
    ],
)
def test_values_that_json_lacks_are_in_no_stored_conversation(value: object) -> None:
    arguments = f'{{"x": [{value}]}}' if isinstance(value, str) else {"x": [value]}
    assert _parsed([_HI, _calling(_call(arguments)), _result(), _HELLO]) == "a tool call whose arguments are not JSON"
    tools = f'[{{"name": "f", "x": {value}}}]' if isinstance(value, str) else [{"name": "f", "x": value}]
    assert _parsed([_HI, _HELLO], tools) == "tools that are not JSON"


def test_a_generated_call_with_a_number_that_json_lacks_stays_text() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {"x": NaN}}\n</tool_call>'
    assert parse_response(text, with_tools=True) == {"role": "assistant", "content": text}


_WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def test_a_conversation_with_tools_and_reasoning_keeps_every_field() -> None:
    messages = [
        _turn("developer", "Be brief."),
        {"role": "user", "content": "Weather?", "name": "Ada"},
        {**_calling(_call({"city": "Bern"})), "reasoning": "I need the tool."},
        {**_result(), "name": "weather"},
        {"role": "assistant", "content": "Cold.", "reasoning": "4 degrees is cold."},
    ]
    found = parse_conversation(messages, [_WEATHER])
    assert found == Conversation(messages=messages, tools=[_WEATHER])
    assert isinstance(found, Conversation)
    assert from_json(to_json(found.messages), to_json(found.tools)) == found


def test_other_spellings_of_tools_and_reasoning_are_stored_under_one_name() -> None:
    expected = [
        _HI,
        {"role": "assistant", "content": None, "tool_calls": [_call({"city": "Bern"}, None)]},
        {"role": "tool", "content": "4 degrees"},
        {"role": "assistant", "content": "Cold.", "reasoning": "hm"},
    ]
    share_gpt = [
        {"from": "human", "value": "hi"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Bern"}}'},
        {"from": "observation", "value": "4 degrees"},
        {"from": "gpt", "value": "Cold.", "reasoning_content": "hm"},
    ]
    assert _parsed(share_gpt) == expected
    call = {"name": "weather", "arguments": '{"city": "Bern"}'}
    legacy = [_HI, {"role": "assistant", "content": "", "function_call": call}]
    legacy += [
        {"role": "function", "content": "4 degrees"},
        {"role": "assistant", "content": "Cold.", "thinking": "hm"},
    ]
    assert _parsed(legacy) == expected
    bare = parse_conversation([_HI, _HELLO], '[{"name": "weather"}]')
    assert isinstance(bare, Conversation)
    assert bare.tools == [{"type": "function", "function": {"name": "weather"}}]


def test_think_tags_are_reasoning_only_where_the_source_uses_them_so() -> None:
    tagged = [_HI, _turn("assistant", "<think>\nhm\n</think>\n\nhello")]
    assert _parsed(tagged) == tagged
    assert _parsed(tagged, think_tags=True) == [_HI, {**_HELLO, "reasoning": "hm"}]
    assert _parsed([_HI, _turn("assistant", "<think>hm")], think_tags=True) == "reasoning without </think>"
    inside = [_HI, _turn("assistant", "Write <think>x</think>.")]
    assert _parsed(inside, think_tags=True) == inside


def test_fields_that_are_not_stored_are_named_once_for_each_message() -> None:
    found = parse_conversation([{**_HI, "weight": 0, "id": 7}, {**_HELLO, "weight": 1, "audio": None}])
    assert isinstance(found, Conversation)
    assert found.unread_fields == ["weight", "id", "weight"]


@pytest.mark.parametrize("role", ["assistant", "Assistant", "ASSISTANT", " gpt", "model", "bot", "chatgpt", "AI"])
def test_an_assistant_has_one_role_whatever_the_source_calls_it(role: str) -> None:
    expected = [_turn("user", "hi"), _turn("assistant", "hello")]
    assert _parsed([{"role": "User", "content": "hi"}, {"role": role, "content": "hello"}]) == expected
    assert _parsed([{"from": "human", "value": "hi"}, {"from": role, "value": "hello"}]) == expected


def test_fields_that_arrow_fills_with_nulls_count_as_absent() -> None:
    empty = dict.fromkeys(("role", "content", "from", "value", "tool_calls"))
    rows = [empty | {"from": "human", "value": "hi"}, empty | {"role": "assistant", "content": "hello"}]
    assert _parsed(rows) == [_turn("user", "hi"), _turn("assistant", "hello")]


def test_text_parts_of_a_message_are_joined_by_line_breaks() -> None:
    parts = [{"type": "text", "text": "one", "image_url": None}, {"type": "input_text", "text": "two"}, "three"]
    assert _parsed([{"role": "user", "content": parts}, _HELLO]) == [_turn("user", "one\ntwo\nthree"), _HELLO]


def test_system_messages_and_tool_results_may_be_empty() -> None:
    messages = [_turn("system", ""), _HI, _calling(_call({})), _result(content=""), _HELLO]
    assert _parsed(messages) == messages


def test_a_generated_response_is_parsed_into_text_and_calls() -> None:
    message = {"role": "assistant", "content": "Let me look.", "tool_calls": [_call({"city": "Bern"}, None)] * 2}
    assert parse_response(message_text(message), with_tools=True) == message
    assert parse_response(message_text(message))["content"] == message_text(message)
    broken = '<tool_call>\n{"name": \n</tool_call>'
    assert parse_response(broken, with_tools=True) == _turn("assistant", broken)


def test_reasoning_and_calls_are_part_of_the_text() -> None:
    message = {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [_call({"a": 1}, None)]}
    assert message_text(message) == (
        '<think>\nhm\n</think>\n\n<tool_call>\n{"name": "weather", "arguments": {"a": 1}}\n</tool_call>'
    )


def test_a_prompt_ends_with_the_last_message_of_a_user() -> None:
    assert list(prompt_messages([_turn("system", "a"), _HI, _HELLO, _HI, _HELLO])) == [
        _turn("system", "a"),
        _HI,
        _HELLO,
        _HI,
    ]
    assert first_user_text([_turn("system", "a"), _HI, _HELLO]) == "hi"


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
