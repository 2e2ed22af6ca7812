"""Conversations: messages as they are stored, the checks of those that are ingested, and their rendering as text.

A message has a role, and text, reasoning and tool calls as far as the role allows them; see `Message`. Rendered as
text:

    ### user
    What is rain?

    ### assistant
    Water that falls.

A line of a message that looks like a header, with any number of backslashes before it, is escaped by one more
backslash. Parsing removes it, so `parse_chat_text(render_chat(messages))` has the roles and texts of the messages;
reasoning and tool calls stand in tags. Filters and metrics read this text. Models read what their chat template makes
of the messages (`tasks/backends/models/chat_template.py`).
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict

from heirloom.errors import HeirloomError

USER_ROLE, ASSISTANT_ROLE, REJECTED_ROLE, TOOL_ROLE = "user", "assistant", "rejected", "tool"
"""`rejected` is the role of a response that was judged worse than the one before it."""

_SYSTEM_ROLES = ("system", "developer")
_HEADER = re.compile(r"^(\\*### )", re.MULTILINE)
_ESCAPED = re.compile(r"^\\(\\*### )", re.MULTILINE)
_ROLES = {
    **dict.fromkeys((USER_ROLE, "human", "prompter"), USER_ROLE),
    **dict.fromkeys(
        (ASSISTANT_ROLE, "gpt", "chatgpt", "bot", "chatbot", "model", "ai", "bard", "bing"), ASSISTANT_ROLE
    ),
    **dict.fromkeys((TOOL_ROLE, "function", "observation", "ipython"), TOOL_ROLE),
    **{role: role for role in (*_SYSTEM_ROLES, REJECTED_ROLE)},
}
"""Names of roles in common chat formats, in lower case, and the role that each is stored as."""
_FUNCTION_CALL = "function_call"
"""Role of ShareGPT, and field of older OpenAI messages, for a call."""

_RESPONSES = (ASSISTANT_ROLE, REJECTED_ROLE)
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_FIELDS = ("reasoning", "reasoning_content", "thinking")
_FIELDS = {"role", "from", "content", "value", *_REASONING_FIELDS, "tool_calls", _FUNCTION_CALL, "tool_call_id", "name"}
_THINK = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_TOOL_CALL = re.compile(r"\s*<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)

NOT_A_CONVERSATION = "not a conversation"
NO_TEXT = "a message without text"


class ToolFunction(TypedDict):
    """Name and arguments of a call; the arguments are an object, whatever the source encoded them as."""

    name: str
    arguments: dict[str, Any]


class ToolCall(TypedDict, total=False):
    """One call of a tool by the assistant."""

    id: str
    type: Required[str]
    function: Required[ToolFunction]


class Message(TypedDict, total=False):
    """One message of a conversation; fields that it does not have are absent."""

    role: Required[str]
    content: Required[str | None]
    """None only where tool calls stand in place of a text."""
    reasoning: str
    tool_calls: list[ToolCall]
    tool_call_id: str
    name: str


Tool = dict[str, Any]
"""A tool that a conversation offers, as OpenAI's `{"type": "function", "function": {...}}`."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages, and the tools that they may call."""

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    unread_fields: Sequence[str] = field(default=(), compare=False)
    """Fields of the source's messages that are not stored, once for each message that has them."""


class _InvalidError(Exception):
    """A conversation cannot be stored; the message is the reason."""


def parse_conversation(value: object, tools: object = None, *, think_tags: bool = False) -> Conversation | str:
    """Return a conversation as it is stored, or the reason for rejecting it.

    Roles are stored under one name: `human` as `user`; `gpt`, `model` or `Assistant` as `assistant`; `function` and
    `observation` as `tool`. The text parts of a message (OpenAI's `{"type": "text", "text": ...}`) are joined by line
    breaks. Arguments of calls are stored as objects, and fields that are null count as absent.

    Args:
        value: messages as {role, content} or ShareGPT's {from, value}.
        tools: the tools beside them, as a list or as JSON text.
        think_tags: whether `<think>...</think>` at the beginning of a response is its reasoning.
    """
    if not isinstance(value, list | tuple) or not value:
        return NOT_A_CONVERSATION
    unread: list[str] = []
    try:
        messages = [_parse_message(message, unread, think_tags=think_tags) for message in value]
        _check_order(messages)
        _check_calls(messages)
        return Conversation(messages=messages, tools=_parse_tools(tools), unread_fields=unread)
    except _InvalidError as error:
        return str(error)


def parse_prompt(value: object, tools: object = None) -> Conversation | str:
    """Return messages to respond to as they are stored, or the reason why they cannot be a prompt."""
    if not isinstance(value, list | tuple):
        return NOT_A_CONVERSATION
    parsed = parse_conversation([*value, {"role": ASSISTANT_ROLE, "content": "."}], tools)
    if isinstance(parsed, str):
        return parsed
    messages = parsed.messages[:-1]
    if messages[-1]["role"] not in (USER_ROLE, TOOL_ROLE):
        return "the last message is neither a user's nor a tool's"
    return Conversation(messages=messages, tools=parsed.tools)


def _parse_message(message: object, unread: list[str], *, think_tags: bool) -> Message:
    if not isinstance(message, dict):
        raise _InvalidError(NOT_A_CONVERSATION)
    unread += [str(name) for name, value in message.items() if name not in _FIELDS and value is not None]
    role, calls = _parse_role(message), _parse_calls(message)
    text = None if _is_call_text(message) else _parse_text(_first_value(message, "content", "value"))
    reasoning, text = _parse_reasoning(message, text, think_tags=think_tags and role in _RESPONSES)
    if role not in _RESPONSES and (calls or reasoning):
        raise _InvalidError(f"{'tool calls' if calls else 'reasoning'} of the role {role!r}")
    if calls and not (text and has_visible_text(text)):
        text = None
    elif text is None or (role in (USER_ROLE, *_RESPONSES) and not has_visible_text(text)):
        raise _InvalidError(NO_TEXT)
    parsed: Message = {"role": role, "content": text}
    if reasoning:
        parsed["reasoning"] = reasoning
    if calls:
        parsed["tool_calls"] = calls
    _copy_names(message, parsed)
    return parsed


def _copy_names(message: Mapping[str, object], parsed: Message) -> None:
    role = parsed["role"]
    if (call_id := message.get("tool_call_id")) is not None:
        if role != TOOL_ROLE:
            raise _InvalidError(f"a tool_call_id of the role {role!r}")
        if not isinstance(call_id, str) or not call_id:
            raise _InvalidError("a tool_call_id that is not text")
        parsed["tool_call_id"] = call_id
    if (name := message.get("name")) is not None:
        if not isinstance(name, str):
            raise _InvalidError("a name that is not text")
        parsed["name"] = name


def _parse_role(message: Mapping[str, object]) -> str:
    given_role = _first_value(message, "role", "from")
    if not isinstance(given_role, str) or not given_role.strip() or len(given_role.splitlines()) != 1:
        raise _InvalidError("a message without a role")
    if given_role == _FUNCTION_CALL:
        return ASSISTANT_ROLE
    role = _ROLES.get(given_role.strip().casefold())
    if role is None:
        raise _InvalidError(f"a message of the unknown role {given_role[:40]!r}")
    return role


def _parse_text(content: object) -> str | None:
    """Return the text of a message, given as text or in parts; None if it has none."""
    if content is None or isinstance(content, str):
        return content
    texts: list[str] = []
    for part in content if isinstance(content, list) else []:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(part, dict) and part.get("type", "text") not in _TEXT_PARTS:
            raise _InvalidError(f"a message with a part of type {str(part['type'])[:40]!r}, which cannot be stored")
        if not isinstance(text, str):
            raise _InvalidError(NO_TEXT)
        texts.append(text)
    return "\n".join(texts) if texts else None


def _parse_reasoning(message: Mapping[str, object], text: str | None, *, think_tags: bool) -> tuple[str, str | None]:
    """Return the reasoning and the text without it."""
    given = [message[name] for name in _REASONING_FIELDS if message.get(name) not in (None, "", [])]
    texts = [value for value in given if isinstance(value, str)]
    if len(texts) < len(given):
        raise _InvalidError("reasoning that is not text")
    if len(set(texts)) > 1:
        raise _InvalidError("a message with two different reasonings")
    reasoning = texts[0] if texts else ""
    if not think_tags or not text or not text.lstrip().startswith("<think>"):
        return reasoning, text
    match = _THINK.match(text)
    if not match:
        raise _InvalidError("reasoning without </think>")
    inside = match.group(1).strip("\n")
    if reasoning and inside.strip() and inside.strip() != reasoning.strip():
        raise _InvalidError("a message with two different reasonings")
    return reasoning or inside, text[match.end() :]


def _is_call_text(message: Mapping[str, object]) -> bool:
    return _first_value(message, "role", "from") == _FUNCTION_CALL


def _parse_calls(message: Mapping[str, object]) -> list[ToolCall]:
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise _InvalidError("tool calls that are not a list")
    if not calls and isinstance(message.get(_FUNCTION_CALL), dict):
        calls = [{"function": message[_FUNCTION_CALL]}]
    if _is_call_text(message):
        function = _parse_json(_first_value(message, "content", "value"), "a tool call that is not JSON")
        calls = function if isinstance(function, list) else [function]
    return [_parse_call(call) for call in calls or ()]


def _parse_call(call: object) -> ToolCall:
    if not isinstance(call, dict):
        raise _InvalidError("a tool call that is not an object")
    function = call["function"] if isinstance(call.get("function"), dict) else call
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise _InvalidError("a tool call without the name of a tool")
    arguments = function.get("arguments")
    if arguments is None or arguments == "":
        arguments = {}
    arguments = _parse_json(arguments, "a tool call whose arguments are not JSON")
    if not isinstance(arguments, dict):
        raise _InvalidError("a tool call whose arguments are not an object")
    _require_json(arguments, "a tool call whose arguments are not JSON")
    parsed: ToolCall = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if call.get("type") not in (None, "function"):
        raise _InvalidError(f"a tool call of type {str(call['type'])[:40]!r}, which cannot be stored")
    if call.get("id") is not None:
        if not isinstance(call["id"], str) or not call["id"]:
            raise _InvalidError("a tool call whose id is not text")
        parsed["id"] = call["id"]
    return parsed


def _parse_json(value: object, reason: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _InvalidError(reason) from error


def _require_json(value: object, reason: str) -> None:
    """Check that a value can be written as JSON: Python reads NaN and infinities, and Parquet has dates and bytes."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _InvalidError(reason) from error


def _parse_tools(tools: object) -> list[Tool]:
    if isinstance(tools, str) and not tools.strip():
        tools = None
    tools = _parse_json(tools, "tools that are not JSON")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise _InvalidError("tools that are not a list")
    parsed: list[Tool] = []
    for tool in tools:
        tool = _parse_json(tool, "tools that are not JSON")  # noqa: PLW2901  (each may be JSON text of its own)
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(tool, dict) or not isinstance(name, str) or not name.strip():
            raise _InvalidError("a tool without a name")
        _require_json(tool, "tools that are not JSON")
        parsed.append(tool if "function" in tool else {"type": "function", "function": tool})
    return parsed


def _check_order(messages: Sequence[Message]) -> None:
    roles = [message["role"] for message in messages]
    systems = [place for place, role in enumerate(roles) if role in _SYSTEM_ROLES]
    if len(systems) > 1:
        raise _InvalidError("two system messages")
    if systems and systems[0]:
        raise _InvalidError("a system message that is not the first one")
    if USER_ROLE not in roles:
        raise _InvalidError("no message of a user")
    if roles[-1] not in _RESPONSES:
        raise _InvalidError("the last message is not the assistant's")
    if REJECTED_ROLE in roles[:-1]:
        raise _InvalidError("a rejected response that is not the last message")
    if roles[-1] == REJECTED_ROLE and roles[-2:-1] != [ASSISTANT_ROLE]:
        raise _InvalidError("a rejected response without a chosen one before it")


def _check_calls(messages: Sequence[Message]) -> None:
    """Check that each result of a tool belongs to a call, and that each call but those of the last message has one.

    Results refer to calls by ids, or in a conversation without any ids by their order.
    """
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    ids = [call["id"] for call in calls if "id" in call]
    with_ids = bool(ids) or any("tool_call_id" in message for message in messages)
    if with_ids and len(ids) < len(calls):
        raise _InvalidError("a tool call without an id")
    if len(set(ids)) < len(ids):
        raise _InvalidError("two tool calls with the same id")
    # Calls that have no result yet: their ids, or for each one None.
    pending: list[str | None] = []
    for message in messages:
        if message["role"] == TOOL_ROLE:
            call_id = message.get("tool_call_id")
            if with_ids and call_id is None:
                raise _InvalidError("a tool result without a tool_call_id")
            if call_id not in pending:
                raise _InvalidError("a tool result without a tool call")
            pending.remove(call_id)
        elif pending and message["role"] != REJECTED_ROLE:
            raise _InvalidError("a tool call without a result")
        if message["role"] != REJECTED_ROLE:
            pending += [call.get("id") for call in message.get("tool_calls", ())]


def _first_value(message: Mapping[str, object], *names: str) -> object:
    """Return the first of these fields that is not null: Arrow fills absent fields with nulls."""
    return next((message[name] for name in names if message.get(name) is not None), None)


def has_visible_text(text: str) -> bool:
    """Return whether a text has any character besides white space and invisible ones."""
    return any(character.isprintable() and not character.isspace() for character in text)


def to_messages(prompt: str, response: str) -> list[Message]:
    """Return a prompt and its response as a conversation of two messages."""
    return [{"role": USER_ROLE, "content": prompt}, {"role": ASSISTANT_ROLE, "content": response}]


def to_json(values: Sequence[Mapping[str, object]]) -> str | None:
    """Return messages or tools as the text of their column, or None if there are none.

    JSON, since the arguments of tools have other fields in every record, which a nested type would fill with nulls.
    """
    if not values:
        return None
    # JSON can contain a lone surrogate, which UTF-8 cannot encode.
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "replace").decode()


def from_json(messages: str | None, tools: str | None = None) -> Conversation | None:
    """Return the conversation of a record's columns, or None if the record is not a conversation."""
    if not messages:
        return None
    return Conversation(messages=json.loads(messages), tools=json.loads(tools) if tools else [])


def prompt_messages(messages: Sequence[Message]) -> Sequence[Message]:
    """Return a conversation up to its last message of a user; without one, all of it."""
    for place in range(len(messages), 0, -1):
        if messages[place - 1]["role"] == USER_ROLE:
            return messages[:place]
    return messages


def first_user_text(messages: Sequence[Message]) -> str:
    """Return the text of the first message of a user, or an empty text."""
    return next((message["content"] or "" for message in messages if message["role"] == USER_ROLE), "")


def message_text(message: Message) -> str:
    """Return the whole of a message as text: reasoning and tool calls in tags, as most chat templates write them."""
    parts = [f"<think>\n{message['reasoning']}\n</think>\n"] if "reasoning" in message else []
    parts += [message["content"]] if message["content"] is not None else []
    for call in message.get("tool_calls", ()):
        parts.append(f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>")
    return "\n".join(parts)


def parse_response(text: str, *, with_tools: bool = False) -> Message:
    """Return the message of a response that a model generated as text, the inverse of `message_text`.

    Args:
        text: the response, without reasoning.
        with_tools: whether the model was offered tools. Calls that are not whole JSON stay text.
    """
    content, calls = text.strip(), list[ToolCall]()
    for match in _TOOL_CALL.finditer(content) if with_tools else ():
        with contextlib.suppress(_InvalidError):
            calls.append(_parse_call(_parse_json(match.group(1), "")))
    if not calls:
        return {"role": ASSISTANT_ROLE, "content": content}
    rest = _TOOL_CALL.sub("", content).strip()
    return {"role": ASSISTANT_ROLE, "content": rest or None, "tool_calls": calls}


def render_chat(messages: Sequence[Message]) -> str:
    """Return a conversation as one text."""
    return "\n\n".join(f"### {message['role']}\n{_HEADER.sub(_escape, message_text(message))}" for message in messages)


def render_prompt(messages: Sequence[Message]) -> str:
    """Return messages as a text that a response continues: `render_prompt(prompt) + response` is the rendered whole."""
    return f"{render_chat(messages)}\n\n### {ASSISTANT_ROLE}\n"


def render_response(message: Message) -> str:
    """Return the text of one response, without its header."""
    return render_chat([message]).partition("\n")[2]


def responses_with_context(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Return each response of a conversation as (prompt, response): `prompt + response` is the rendered text so far."""
    return [
        (render_prompt(messages[:position]), render_response(message))
        for position, message in enumerate(messages)
        if message["role"] == ASSISTANT_ROLE and position
    ]


def first_response(text: str) -> str:
    """Return what a generated text has before the header of another message, without the rendering's backslashes."""
    return _ESCAPED.sub(r"\1", text.partition("\n\n### ")[0])


def to_openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as OpenAI's API takes them: arguments of calls as JSON text, reasoning as `reasoning_content`."""
    converted: list[dict[str, Any]] = []
    for message in messages:
        fields: dict[str, Any] = {key: value for key, value in message.items() if key != "reasoning"}
        if "reasoning" in message:
            fields["reasoning_content"] = message["reasoning"]
        if "tool_calls" in message:
            fields["tool_calls"] = [
                {
                    **call,
                    "function": {
                        "name": call["function"]["name"],
                        "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                    },
                }
                for call in message["tool_calls"]
            ]
        converted.append(fields)
    return converted


def parse_chat_text(text: str) -> list[Message]:
    """Return the roles and texts of the messages that a text was rendered from.

    Raises:
        HeirloomError: the text is not a rendered conversation.
    """
    if not text.startswith("### "):
        raise HeirloomError(f"A rendered conversation must begin with '### ' and a role; found {text[:20]!r}.")
    messages: list[Message] = []
    for block in text.removeprefix("### ").split("\n\n### "):
        role, line_end, content = block.partition("\n")
        if not line_end:
            raise HeirloomError(f"The message of role {role!r} has no content. A line break must follow the role.")
        messages.append({"role": role, "content": _ESCAPED.sub(r"\1", content)})
    return messages


def text_of_turns(text: str) -> str:
    """Return the texts of users and assistants in a rendered conversation; any other text as it is.

    Roles, system prompts, calls of tools and their results are left out: conversations about different things share
    them.
    """
    if not text.startswith("### "):
        return text
    try:
        messages = parse_chat_text(text)
    except HeirloomError:
        return text
    if not {message["role"] for message in messages} <= {*_ROLES.values(), REJECTED_ROLE}:
        # A page of Markdown, whose headings are no roles.
        return text
    turns = []
    for message in messages:
        content = message["content"] or ""
        if message["role"] == USER_ROLE:
            turns.append(content)
        elif message["role"] in _RESPONSES:
            turns.append(_TOOL_CALL.sub("", _THINK.sub(r"\1\n", content)))
    return "\n".join(turns).strip() or text


def _escape(match: re.Match[str]) -> str:
    return "\\" + match.group()
