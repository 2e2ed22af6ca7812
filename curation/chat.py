"""Conversations as texts: one rendering, and the way back.

    ### user
    What is rain?

    ### assistant
    Water that falls.

A line of a message that looks like a header, with any number of backslashes before it, gets one more; reading
takes it away again, so that `parse(render(turns))` is `turns`.
"""

import re
from collections.abc import Sequence
from typing import Any, TypedDict

ANSWERS, REJECTED = "assistant", "rejected"
"""Roles of who answers, and of an answer that was less liked than the one before it."""

_HEADER = re.compile(r"^(\\*### )", re.MULTILINE)
_ESCAPED = re.compile(r"^\\(\\*### )", re.MULTILINE)
_SHAREGPT = {"human": "user", "gpt": ANSWERS}
"""Names of the two who speak in ShareGPT's files, and what everybody else calls them."""


class Turn(TypedDict):
    """One message: who speaks, and what."""

    role: str
    content: str


def read_turns(value: Sequence[Any]) -> list[Turn] | str:
    """The turns of a list of {role, content}, or of ShareGPT's {from, value}; or the reason why there are none."""
    turns: list[Turn] = []
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


def as_turns(prompt: str, response: str) -> list[Turn]:
    """A prompt and its response as a conversation of two turns."""
    return [{"role": "user", "content": prompt}, {"role": ANSWERS, "content": response}]


def render(turns: Sequence[Turn]) -> str:
    """The one text of a conversation."""
    return "\n\n".join(f"### {turn['role']}\n{_HEADER.sub(_escape, turn['content'])}" for turn in turns)


def responses(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """Every answer of a conversation, with all that was said before it: `prompt + response` is the rendered text so far."""
    found = []
    for place, turn in enumerate(turns):
        if turn["role"] == ANSWERS and place:
            header = f"\n\n### {ANSWERS}\n"
            found.append((render(turns[:place]) + header, render([turn]).removeprefix(header.lstrip())))
    return found


def parse(text: str) -> list[Turn]:
    """The turns that a text was rendered from.

    Raises:
        ValueError: it is no rendered conversation.
    """
    if not text.startswith("### "):
        raise ValueError("a rendered conversation begins with '### ' and a role")
    turns: list[Turn] = []
    for turn in text.removeprefix("### ").split("\n\n### "):
        role, line_end, content = turn.partition("\n")
        if not line_end:
            raise ValueError(f"the turn of {role!r} has no text line")
        turns.append({"role": role, "content": _ESCAPED.sub(r"\1", content)})
    return turns


def _escape(found: re.Match[str]) -> str:
    return "\\" + found.group()
