"""Fill prompt templates, and apportion prompts to the cells of an attribute grid.

A placeholder is `{record}`, `{opening}` (the first words of a human record), `{question}` (the first message of a
record that is a conversation, else the whole record), `{earlier}` (a survivor of the last generation, or a human record
before there is one), or the name of an attribute. The values of all attributes form a grid. Its cells have equal
quotas, or quotas by weights; cells whose prompts left too few survivors in earlier generations are prompted first.
"""

import itertools
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod

from curation.selection.apportionment import largest_remainder
from heirloom.chat import Conversation, first_user_text
from heirloom.errors import HeirloomError, did_you_mean

# No template ends with a space: a token includes the space before its word, so a word never follows a lone space token.
TEMPLATES = {
    "rephrase": "Say the following in other words.\n\n{record}\n\nIn other words:",
    "question_answer": "Write one question that this text answers, and its answer.\n\n{record}\n\nQuestion:",
    "evolve": "Rewrite this instruction so that it asks for one step more of thought.\n\n{earlier}\n\nRewritten:",
    "instruction": "Write an instruction that this text would be a good answer to.\n\n{record}\n\nInstruction:",
    "distill": "{question}",
    "persona": "You are {persona}. Write what you would say about this.\n\n{opening}",
}
"""Shipped templates by name; `persona` takes its values from the attribute of that name."""

RECORD_PLACEHOLDERS = {"record", "opening", "question", "earlier"}
"""Placeholders that are filled from a record."""

DEFAULT_OUTPUT_FORMATS = {
    "unconditional": "prompt_and_completion",
    "prefix": "prompt_and_completion",
    "distill": "chat",
}
"""Default of `prompts.output_format` by template name; `completion` for all others."""


AttributeCell = tuple[str, ...]
"""One value of each attribute, in the order of the recipe."""


def placeholders(template: str) -> set[str]:
    """Return the names in braces.

    Raises:
        HeirloomError: a brace is not closed, or a placeholder is not a name.
    """
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise HeirloomError(
            f"The template {template!r} is malformed: {error}. Write {{{{ and }}}} for literal braces."
        ) from error
    names = {name for _, name, _, _ in fields if name is not None}
    invalid = sorted(name for name in names if not name.isidentifier())
    if invalid:
        raise HeirloomError(
            f"The template contains {{{invalid[0]}}}. A placeholder is a name in braces, such as {{subject}}; "
            "write {{ and }} for literal braces."
        )
    return names


def validate_template(template: str, attributes: Mapping[str, Sequence[str]]) -> None:
    """Check that placeholders and attributes match.

    Raises:
        HeirloomError: the template is empty, a placeholder is unknown, an attribute has no placeholder, or an attribute
            has no values or a repeated one.
    """
    if not template.strip():
        raise HeirloomError("The template is empty. Set `prompts.template` to a text with placeholders in braces.")
    names = placeholders(template)
    unknown = sorted(names - RECORD_PLACEHOLDERS - set(attributes))
    if unknown:
        raise HeirloomError(
            f"Unknown placeholder {{{unknown[0]}}}.{did_you_mean(unknown[0], {*RECORD_PLACEHOLDERS, *attributes})} "
            f"Placeholders are {', '.join(sorted(RECORD_PLACEHOLDERS))}, and the names in "
            f"`prompts.attributes` ({', '.join(attributes) or 'none'})."
        )
    unused = sorted(set(attributes) - names)
    if unused:
        raise HeirloomError(
            f"The template has no placeholder {{{unused[0]}}} for the attribute {unused[0]!r}. Add it, or remove the "
            "attribute."
        )
    for name, values in attributes.items():
        if not values:
            raise HeirloomError(f"Attribute {name!r} has no values. It needs at least one.")
        if len(set(values)) < len(values):
            repeated, times = Counter(values).most_common(1)[0]
            raise HeirloomError(
                f"Attribute {name!r} has the value {repeated!r} {times} times. Keep one of them; "
                "`prompts.attribute_weights` makes a value more frequent."
            )


def attribute_grid(attributes: Mapping[str, Sequence[str]]) -> list[AttributeCell]:
    """Return every cell of the grid; one empty cell without attributes."""
    return list(itertools.product(*attributes.values()))


def grid_shares(
    attributes: Mapping[str, Sequence[str]], weights: Mapping[str, Mapping[str, float]]
) -> dict[AttributeCell, float]:
    """Return the share of each cell: the normalized product of its values' weights, each 1 by default."""
    cell_weights = {
        cell: prod(weights.get(name, {}).get(value, 1.0) for name, value in zip(attributes, cell, strict=True))
        for cell in attribute_grid(attributes)
    }
    total = sum(cell_weights.values())
    return {cell: weight / total for cell, weight in cell_weights.items()}


def grid_counts(
    count: int, shares: Mapping[AttributeCell, float], delivered: Mapping[AttributeCell, int]
) -> dict[AttributeCell, int]:
    """Divide `count` prompts among the cells, so that all generations together have the shares.

    Args:
        count: number of prompts.
        shares: share of each cell; they sum to 1.
        delivered: survivors of earlier generations by cell. A cell with more than its share gets no prompt.
    """
    target = count + sum(delivered.get(cell, 0) for cell in shares)
    missing = [max(0.0, share * target - delivered.get(cell, 0)) for cell, share in shares.items()]
    # Rounded, since shares such as 1/60 must leave equal remainders for equal cells.
    counts = largest_remainder(count, {str(index): round(number, 9) for index, number in enumerate(missing)})
    return dict(zip(shares, counts.values(), strict=True))


def render_template(template: str, values: Mapping[str, str]) -> str:
    """Fill each placeholder; braces inside the values are left unchanged."""
    return string.Formatter().vformat(template, (), values)


def question_of(record: str, conversation: Conversation | None) -> str:
    """Return the text of the first message of a user in a conversation, or the whole of any other record."""
    return first_user_text(conversation.messages) if conversation else record
