"""Conversations as texts: one rendering, and the way back.

    ### user
    What is rain?

    ### assistant
    Water that falls.

A line of a message that looks like a header, with any number of backslashes before it, gets one more; reading
takes it away again, so that `parse_chat_text(render_chat(messages))` is `messages`.
"""

import re
from collections.abc import Sequence
from typing import Any, TypedDict

from heirloom.errors import HeirloomError

ASSISTANT_ROLE, REJECTED_ROLE = "assistant", "rejected"
"""Roles of who answers, and of an answer that was less liked than the one before it."""

_HEADER = re.compile(r"^(\\*### )", re.MULTILINE)
_ESCAPED = re.compile(r"^\\(\\*### )", re.MULTILINE)
_SHAREGPT = {"human": "user", "gpt": ASSISTANT_ROLE}
"""Names of the two who speak in ShareGPT's files, and what everybody else calls them."""


class Message(TypedDict):
    """One message: who speaks, and what."""

    role: str
    content: str


def parse_messages(value: Sequence[Any]) -> list[Message] | str:
    """The turns of a list of {role, content}, or of ShareGPT's {from, value}; or the reason why there are none."""
    turns: list[Message] = []
    for message in value:
        if not isinstance(message, dict):
            return "not a conversation"
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str) or not role or len(role.splitlines()) != 1:
            return "a message without a role"
        if not isinstance(content, str):
            return "a message without text"
        turns.append({"role": _SHAREGPT.get(role, role) if "from" in message else role, "content": content})
    return turns or "not a conversation"


def to_messages(prompt: str, response: str) -> list[Message]:
    """A prompt and its response as a conversation of two turns."""
    return [{"role": "user", "content": prompt}, {"role": ASSISTANT_ROLE, "content": response}]


def render_chat(messages: Sequence[Message]) -> str:
    """The one text of a conversation."""
    return "\n\n".join(f"### {turn['role']}\n{_HEADER.sub(_escape, turn['content'])}" for turn in messages)


def responses_with_context(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Every answer of a conversation, with all that was said before it: `prompt + response` is the rendered text so far."""
    found = []
    for place, turn in enumerate(messages):
        if turn["role"] == ASSISTANT_ROLE and place:
            header = f"\n\n### {ASSISTANT_ROLE}\n"
            found.append((render_chat(messages[:place]) + header, render_chat([turn]).removeprefix(header.lstrip())))
    return found


def parse_chat_text(text: str) -> list[Message]:
    """The turns that a text was rendered from.

    Raises:
        HeirloomError: it is no rendered conversation.
    """
    if not text.startswith("### "):
        raise HeirloomError("a rendered conversation begins with '### ' and a role")
    turns: list[Message] = []
    for turn in text.removeprefix("### ").split("\n\n### "):
        role, line_end, content = turn.partition("\n")
        if not line_end:
            raise HeirloomError(f"the turn of {role!r} has no text line")
        turns.append({"role": role, "content": _ESCAPED.sub(r"\1", content)})
    return turns


def _escape(found: re.Match[str]) -> str:
    return "\\" + found.group()
