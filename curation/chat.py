"""Render conversations as text, and parse them back.

    ### user
    What is rain?

    ### assistant
    Water that falls.

A line of a message that looks like a header, with any number of backslashes before it, is escaped by one more
backslash. Parsing removes it, so that `parse_chat_text(render_chat(messages))` equals `messages`.
"""

import re
from collections.abc import Sequence
from typing import Any, TypedDict

from heirloom.errors import HeirloomError

ASSISTANT_ROLE, REJECTED_ROLE = "assistant", "rejected"
"""Roles of a response, and of a response that was judged worse than the one before it."""

_HEADER = re.compile(r"^(\\*### )", re.MULTILINE)
_ESCAPED = re.compile(r"^\\(\\*### )", re.MULTILINE)
_SHAREGPT = {"human": "user", "gpt": ASSISTANT_ROLE}
"""Roles in ShareGPT files, and their common names."""


class Message(TypedDict):
    """One message of a conversation."""

    role: str
    content: str


def parse_messages(value: Sequence[Any]) -> list[Message] | str:
    """Return the messages of a list of {role, content} or ShareGPT's {from, value}, or the reason for rejecting it."""
    messages: list[Message] = []
    for message in value:
        if not isinstance(message, dict):
            return "not a conversation"
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str) or not role or len(role.splitlines()) != 1:
            return "a message without a role"
        if not isinstance(content, str):
            return "a message without text"
        messages.append({"role": _SHAREGPT.get(role, role) if "from" in message else role, "content": content})
    return messages or "not a conversation"


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
