"""Render conversations as text, and parse them back.

    ### user
    What is rain?

    ### assistant
    Water that falls.

A line of a message that looks like a header, with any number of backslashes before it, is escaped by one more
backslash. Parsing removes it, so that `parse_chat_text(render_chat(messages))` equals `messages`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from heirloom.errors import HeirloomError

ASSISTANT_ROLE, REJECTED_ROLE = "assistant", "rejected"
"""Roles of a response, and of a response that was judged worse than the one before it."""

_HEADER = re.compile(r"^(\\*### )", re.MULTILINE)
_ESCAPED = re.compile(r"^\\(\\*### )", re.MULTILINE)
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "ai", "bard", "bing"), ASSISTANT_ROLE),
    **{role: role for role in ("system", "developer", "tool", "function", "observation", "ipython", REJECTED_ROLE)},
}
"""Names of roles in common chat formats, in lower case, and the role that each is stored as."""

_NEED_TEXT = ("user", ASSISTANT_ROLE, REJECTED_ROLE)
_TEXT_PARTS = ("text", "input_text", "output_text")
_TOOL_CALLS = "a message with tool calls, which cannot be stored"


class Message(TypedDict):
    """One message of a conversation."""

    role: str
    content: str


def parse_messages(value: Sequence[Any]) -> list[Message] | str:
    """Return the messages of a conversation, or the reason for rejecting it.

    Roles are stored under one name: `human` as `user`; `gpt`, `model` or `Assistant` as `assistant`. The text parts of
    a message (OpenAI's `{"type": "text", "text": ...}`) are joined by line breaks.

    Args:
        value: messages as {role, content} or ShareGPT's {from, value}; fields that are null count as absent.
    """
    messages: list[Message] = []
    for message in value:
        if not isinstance(message, dict):
            return "not a conversation"
        parsed = _parse_message(message)
        if isinstance(parsed, str):
            return parsed
        messages.append(parsed)
    return messages or "not a conversation"


def _parse_message(message: Mapping[str, Any]) -> Message | str:
    given_role = _first_value(message, "role", "from")
    if not isinstance(given_role, str) or not given_role.strip() or len(given_role.splitlines()) != 1:
        return "a message without a role"
    if given_role == "function_call" or message.get("tool_calls") or message.get("function_call"):
        return _TOOL_CALLS
    role = _ROLES.get(given_role.strip().casefold())
    if role is None:
        return f"a message of the unknown role {given_role[:40]!r}"
    text, reason = _message_text(_first_value(message, "content", "value"))
    if not reason and role in _NEED_TEXT and not has_visible_text(text):
        reason = "a message without text"
    return reason or {"role": role, "content": text}


def _message_text(content: object) -> tuple[str, str]:
    """Return the text of a message, given as text or in parts, and the reason if it has none."""
    if isinstance(content, str):
        return content, ""
    texts: list[str] = []
    for part in content if isinstance(content, list) else []:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(part, dict) and part.get("type", "text") not in _TEXT_PARTS:
            return "", f"a message with a part of type {str(part['type'])[:40]!r}, which cannot be stored"
        if not isinstance(text, str):
            return "", "a message without text"
        texts.append(text)
    return "\n".join(texts), "" if texts else "a message without text"


def _first_value(message: Mapping[str, Any], *names: str) -> object:
    """Return the first of these fields that is not null: Arrow fills absent fields with nulls."""
    return next((message[name] for name in names if message.get(name) is not None), None)


def has_visible_text(text: str) -> bool:
    """Return whether a text has any character besides white space and invisible ones."""
    return any(character.isprintable() and not character.isspace() for character in text)


def to_messages(prompt: str, response: str) -> list[Message]:
    """Return a prompt and its response as a conversation of two messages."""
    return [{"role": "user", "content": prompt}, {"role": ASSISTANT_ROLE, "content": response}]


def render_chat(messages: Sequence[Message]) -> str:
    """Return a conversation as one text."""
    return "\n\n".join(f"### {message['role']}\n{_HEADER.sub(_escape, message['content'])}" for message in messages)


def responses_with_context(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Return each response of a conversation as (prompt, response): `prompt + response` is the rendered text so far."""
    header = f"\n\n### {ASSISTANT_ROLE}\n"
    responses = []
    for position, message in enumerate(messages):
        if message["role"] == ASSISTANT_ROLE and position:
            prompt = render_chat(messages[:position]) + header
            responses.append((prompt, render_chat([message]).removeprefix(header.lstrip())))
    return responses


def parse_chat_text(text: str) -> list[Message]:
    """Return the messages that a text was rendered from.

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


def _escape(match: re.Match[str]) -> str:
    return "\\" + match.group()
