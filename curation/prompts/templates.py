"""Prompt programs: templates with slots, an attribute grid with exact quotas, and the user's own function.

A slot is `{record}`, `{opening}` (the first words of a reserve record), `{question}` (its first turn where it is a conversation, or
all of it), `{earlier}` (a survivor of the last generation, a record before there is one), or the name of an attribute, whose values make a grid. Every cell of the grid has the same quota
or one by its weights; what curation left short in earlier generations is asked for again before the rest.
"""

import itertools
import string
from collections.abc import Mapping, Sequence
from math import prod

from curation.chat import parse_chat_text
from curation.selection.apportionment import largest_remainder
from heirloom.errors import HeirloomError

# None ends with a space: tokens begin with theirs, and after a lone one a model has never seen a word.
TEMPLATES = {
    "rephrase": "Say the following in other words.\n\n{record}\n\nIn other words:",
    "question_answer": "Write one question that this text answers, and its answer.\n\n{record}\n\nQuestion:",
    "evolve": "Rewrite this instruction so that it asks for one step more of thought.\n\n{earlier}\n\nRewritten:",
    "instruction": "Write an instruction that this text would be a good answer to.\n\n{record}\n\nInstruction:",
    "distill": "{question}",
    "persona": "You are {persona}. Write what you would say about this.\n\n{opening}",
}
"""Shipped templates by their program's name; `persona` takes its personas from the attribute of that name."""


RECORD_PLACEHOLDERS = {"record", "opening", "question", "earlier"}


DEFAULT_OUTPUT_FORMATS = {
    "unconditional": "prompt_and_completion",
    "prefix": "prompt_and_completion",
    "distill": "chat",
}
"""What becomes the record where a recipe does not say; of every other program the answer alone."""


AttributeCell = tuple[str, ...]
"""One value of each attribute, in the order in which the recipe names them."""


def placeholders(template: str) -> set[str]:
    """Names in braces.

    Raises:
        HeirloomError: a brace is not closed, or a slot has no name.
    """
    names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if odd := sorted(name for name in names if not name.isidentifier()):
        raise HeirloomError(
            f"a slot is a name in braces, as {{subject}}; found {{{odd[0]}}}; write {{{{ for a brace itself"
        )
    return names


def validate_template(template: str, attributes: Mapping[str, Sequence[str]]) -> None:
    """Refuse a template whose slots nobody fills, and attributes that no slot names.

    Raises:
        HeirloomError: see above, or an empty template, or an attribute without values or with one twice.
    """
    if not template.strip():
        raise HeirloomError("a template needs text; write it as prompts.template, with slots in braces")
    named = placeholders(template)
    if unknown := sorted(named - RECORD_PLACEHOLDERS - set(attributes)):
        raise HeirloomError(
            f"nobody fills the slot {{{unknown[0]}}}; slots are {', '.join(sorted(RECORD_PLACEHOLDERS))} and the attributes, "
            f"which are {', '.join(attributes) or 'none'}"
        )
    if unused := sorted(set(attributes) - named):
        raise HeirloomError(f"the template has no slot {{{unused[0]}}} for the attribute of that name")
    for name, values in attributes.items():
        if not values or len(set(values)) < len(values):
            raise HeirloomError(f"attribute {name} needs values, each once; found {list(values)}")


def attribute_grid(attributes: Mapping[str, Sequence[str]]) -> list[AttributeCell]:
    """Every cell of the grid; one empty cell where there are no attributes."""
    return list(itertools.product(*attributes.values()))


def grid_shares(
    attributes: Mapping[str, Sequence[str]], weights: Mapping[str, Mapping[str, float]]
) -> dict[AttributeCell, float]:
    """Share of each cell: the product of its values' weights, 1 where none is given; they sum to 1."""
    names = list(attributes)
    raw = {
        cell: prod(weights.get(name, {}).get(value, 1.0) for name, value in zip(names, cell, strict=True))
        for cell in attribute_grid(attributes)
    }
    total = sum(raw.values())
    return {cell: share / total for cell, share in raw.items()}


def grid_counts(
    count: int, shares: Mapping[AttributeCell, float], delivered: Mapping[AttributeCell, int]
) -> dict[AttributeCell, int]:
    """How many of `count` prompts each cell gets, exactly: shares of all so far, less what was delivered.

    `delivered` counts the survivors of earlier generations by cell; a cell that has more than its share by now gets none.
    """
    aim = count + sum(delivered.get(cell, 0) for cell in shares)
    missing = [max(0.0, share * aim - delivered.get(cell, 0)) for cell, share in shares.items()]
    # Plain decimals: shares such as 1/60 must leave equal remainders for equal cells.
    asked = largest_remainder(count, {str(place): round(short, 9) for place, short in enumerate(missing)})
    return dict(zip(shares, asked.values(), strict=True))


def render_template(template: str, values: Mapping[str, str]) -> str:
    """The template with each slot filled; braces inside the values stay as they are."""
    return string.Formatter().vformat(template, (), values)


def first_user_message(record: str) -> str:
    """The first turn of a conversation, or the whole of any other text."""
    try:
        return parse_chat_text(record)[0]["content"]
    except ValueError:
        return record
