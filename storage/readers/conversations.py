"""Find the conversation in a row: common shapes of datasets by their columns, and lists of messages however stored.

Messages are returned as the source has them. `heirloom/chat.py` checks and normalizes them.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from heirloom.syntax import parse_literal

Cells: TypeAlias = Mapping[str, Any]
"""Values of a row by column."""
Converted: TypeAlias = tuple[Any, str]
"""Messages of a row, and the reason if there are none."""

TOOLS_COLUMN = "tools"
"""Column with the tools that a conversation offers; read beside every column of messages."""

MESSAGES_TEXT = re.compile(
    r"""\s*(?:\[\s*\{\s*["']|\{\s*["'](?:messages|conversations|role|from|content|value)["']\s*:\s*\[)"""
)
"""Beginning of a text that may be a serialized list of messages."""
_MESSAGE_KEY = re.compile(r"""[\s\[{]*["'](?:role|from)["']\s*:""")
_MAX_LITERAL_LENGTH = 1 << 20
_ROLE_FIELDS, _CONTENT_FIELDS = ("role", "from"), ("content", "value")
_RESPONSE_ROLES = ("assistant", "gpt", "model")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Columns by which a kind of conversation is recognized, and how its messages are put together."""

    name: str
    columns: tuple[str, ...]
    convert: Callable[[Cells], Converted]
    optional: tuple[str, ...] = (TOOLS_COLUMN,)
    """Columns that are read if they are there."""


def find_shape(present: Collection[str]) -> Shape | None:
    """Return the shape that these columns have, the most specific one; None if they have none."""
    return next((shape for shape in SHAPES if all(column in present for column in shape.columns)), None)


def shape_name(messages: Any) -> str:  # noqa: ANN401  (of any source)
    """Return the common name of a list of messages, by the fields of the first one."""
    first = messages[0] if isinstance(messages, list) and messages else None
    return "ShareGPT conversations" if isinstance(first, dict) and first.get("from") else "OpenAI messages"


def decode_messages(content: Any) -> Converted:  # noqa: ANN401
    """Return messages as a list, from any of the stored shapes, and the reason if they cannot be decoded.

    The shapes are a list of objects, an object of lists (`{"role": [...], "content": [...]}`, which Arrow and
    `datasets` make of it), and either of them as JSON or as the text of a Python literal. Other values are returned
    as they are.
    """
    if isinstance(content, str) and MESSAGES_TEXT.match(content):
        decoded, reason = _decode_literal(content)
        messages, error = decode_messages(decoded)
        is_conversation = isinstance(messages, list) and all(_has_role(message) for message in messages)
        return (messages if is_conversation else content), reason or error
    if not isinstance(content, dict):
        return content, ""
    for wrapper in ("messages", "conversations"):
        if isinstance(content.get(wrapper), list):
            return content[wrapper], ""
    for role_field, content_field in zip(_ROLE_FIELDS, _CONTENT_FIELDS, strict=True):
        roles, texts = content.get(role_field), content.get(content_field)
        if isinstance(roles, list) and isinstance(texts, list):
            return _messages_of_lists(content)
    return content, ""


def _messages_of_lists(fields: dict[str, Any]) -> Converted:
    lists = {name: values for name, values in fields.items() if isinstance(values, list)}
    if len({len(values) for values in lists.values() if values}) > 1:
        return None, "a conversation whose lists differ in length"
    filled = {name: values for name, values in lists.items() if values}
    return [dict(zip(filled, message, strict=True)) for message in zip(*filled.values(), strict=True)], ""


def _decode_literal(text: str) -> Converted:
    """Parse JSON or a Python literal; a text that is neither is an error only if it begins like a conversation."""
    try:
        return orjson.loads(text), ""
    except ValueError:
        pass
    try:
        return json.loads(text), ""
    except (ValueError, RecursionError):
        pass
    if len(text) <= _MAX_LITERAL_LENGTH:
        try:
            # What `str()` makes of a list of messages, and so what CSV exports of such a column contain.
            return parse_literal(text.strip()), ""
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    begins_with_role = _MESSAGE_KEY.match(text) is not None
    return None, "a conversation as text that is neither JSON nor a Python literal" if begins_with_role else ""


def _has_role(message: object) -> bool:
    return isinstance(message, dict) and any(isinstance(message.get(name), str) for name in _ROLE_FIELDS)


def no_text(column: str) -> str:
    """Return the reason for rejecting a row without text in a column."""
    return f"no text in column {column}"


def _of_list(cells: Cells, column: str) -> Converted:
    messages, reason = decode_messages(cells.get(column))
    if not reason and not isinstance(messages, list):
        reason = f"no messages in column {column}"
    if not reason and isinstance(system := cells.get("system"), str) and system.strip() and column == "conversations":
        messages = [{"role": "system", "content": system}, *messages]
    return messages, reason


def _of_alpaca(cells: Cells) -> Converted:
    instruction, prompt_input, output = cells.get("instruction"), cells.get("input"), cells.get("output")
    if not isinstance(instruction, str) or not instruction.strip():
        return None, no_text("instruction")
    if not isinstance(output, str) or not output.strip():
        return None, no_text("output")
    if prompt_input is not None and not isinstance(prompt_input, str):
        return None, no_text("input")
    prompt = f"{instruction}\n\n{prompt_input}" if prompt_input and prompt_input.strip() else instruction
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": output}], ""


def _of_prompt_completion(cells: Cells) -> Converted:
    prompt, reason = _turns(cells, "prompt", "user")
    completion, completion_reason = _turns(cells, "completion", "assistant")
    return [*prompt, *completion], reason or completion_reason


def _of_preference(cells: Cells) -> Converted:
    """Messages of a pair: the prompt, the chosen response, and the rejected one under the role `rejected`."""
    chosen, reason = _turns(cells, "chosen", "assistant")
    rejected, rejected_reason = _turns(cells, "rejected", "assistant")
    prompt: list[Any] = []
    if reason := reason or rejected_reason:
        return None, reason
    # Some sources repeat the prompt in front of both responses; then it is read from there.
    if _role(chosen[0]) in _RESPONSE_ROLES:
        if "prompt" not in cells:
            return None, "a chosen response without a prompt"
        prompt, reason = _turns(cells, "prompt", "user")
    if not reason and (len(chosen) != len(rejected) or chosen[:-1] != rejected[:-1]):
        reason = "a chosen and a rejected response to different prompts"
    if reason or not isinstance(rejected[-1], dict):
        return None, reason or "not a conversation"
    last = {name: value for name, value in rejected[-1].items() if name != "from"}
    return [*prompt, *chosen, {**last, "role": "rejected"}], ""


def _turns(cells: Cells, column: str, role: str) -> tuple[list[Any], str]:
    """Return the messages of a column that holds a list of them, or the text of one."""
    value, reason = decode_messages(cells.get(column))
    if isinstance(value, str) and value.strip():
        return [{"role": role, "content": value}], reason
    if isinstance(value, list) and value:
        return value, reason
    return [], reason or no_text(column)


def _role(message: object) -> object:
    return (message.get("role") or message.get("from")) if isinstance(message, dict) else None


SHAPES = (
    Shape(name="messages", columns=("messages",), convert=lambda cells: _of_list(cells, "messages")),
    Shape(
        name="messages",
        columns=("conversations",),
        optional=(TOOLS_COLUMN, "system"),
        convert=lambda cells: _of_list(cells, "conversations"),
    ),
    Shape(name="TRL preference pairs", columns=("prompt", "chosen", "rejected"), convert=_of_preference),
    Shape(name="TRL preference pairs", columns=("chosen", "rejected"), convert=_of_preference),
    Shape(name="TRL prompts and completions", columns=("prompt", "completion"), convert=_of_prompt_completion),
    Shape(name="Alpaca instructions", columns=("instruction", "output"), optional=("input",), convert=_of_alpaca),
)
"""Shapes that are recognized where a source has no column of the text, the most specific ones first."""
