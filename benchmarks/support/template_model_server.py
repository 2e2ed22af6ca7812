"""Generate texts whose first words name their attributes, and detect the attributes of a text.

A tiny model can learn to follow them.

    river story short : heron wandered softly .

The words before the colon are the requested attributes; subject, format and length are detected from the words after
it.
"""

import random
from collections import Counter
from collections.abc import Mapping

GRID = {
    "subject": ("river", "garden", "harbour", "winter", "village"),
    "format": ("story", "list", "letter", "poem"),
    "length": ("short", "middle", "long"),
}
PERSONAS = ("a sailor", "a baker", "a judge")
_NOUNS = {
    "river": ("heron", "reeds", "current", "otter", "bridge"),
    "garden": ("rose", "beetle", "hedge", "tulip", "spade"),
    "harbour": ("mast", "gull", "anchor", "pier", "cargo"),
    "winter": ("frost", "sledge", "icicle", "blizzard", "ember"),
    "village": ("chapel", "market", "well", "smith", "lane"),
}
_VERBS = {
    "story": ("wandered", "vanished", "returned", "awoke"),
    "list": ("counts", "holds", "includes", "lacks"),
    "letter": ("writes", "greets", "thanks", "begs"),
    "poem": ("sings", "glimmers", "sighs", "dreams"),
}
_PERSONA_WORDS = {"a sailor": "ahoy", "a baker": "crusty", "a judge": "hereby"}
_CLAUSES = {"short": (1, 2), "middle": (3, 4), "long": (6, 7)}
_ADVERBS = ("softly", "again", "together", "slowly", "gladly", "alone")


def header(asked: Mapping[str, str]) -> str:
    """The words that ask for a text of this subject, format and length."""
    return f"{asked['subject']} {asked['format']} {asked['length']} :"


def body(asked: Mapping[str, str], rng: random.Random) -> str:
    """A text of this subject, format and length; by a persona, if one is asked for."""
    nouns, verbs = _NOUNS[asked["subject"]], _VERBS[asked["format"]]
    persona_words = (_PERSONA_WORDS[asked["persona"]],) if "persona" in asked else ()
    # Every four words contain a noun and a predicate, so that even a model that counts short runs keeps to both.
    clauses = (
        " ".join((*persona_words, rng.choice(nouns), rng.choice(verbs)))
        for _ in range(rng.randint(*_CLAUSES[asked["length"]]))
    )
    return " , ".join(clauses) + f" {rng.choice(_ADVERBS)} ."


def human_record(rng: random.Random) -> str:
    """A random header and its text."""
    asked = {name: rng.choice(values) for name, values in GRID.items()}
    return f"{header(asked)} {body(asked, rng)}"


def asked_by(text: str) -> dict[str, str]:
    """The attributes that the header in a text names, and the persona before it."""
    before, colon, _ = text.partition(" :")
    words = before.split()
    found = {name: value for name, values in GRID.items() for value in values if colon and value in words}
    personas = [one for one in PERSONAS if one in text]
    return found | ({"persona": personas[0]} if personas else {})


def delivered(text: str) -> dict[str, str]:
    """What a text is, by the words after its header."""
    words = text.rpartition(" :")[2].split()
    kinds: dict[str, Mapping[str, tuple[str, ...]]]
    kinds = {
        "subject": _NOUNS,
        "format": _VERBS,
        "persona": {name: (persona_words,) for name, persona_words in _PERSONA_WORDS.items()},
    }
    found: dict[str, str] = {}
    for name, lexicon in kinds.items():
        seen = Counter({value: sum(word in own for word in words) for value, own in lexicon.items()})
        ((value, count),) = seen.most_common(1)
        found[name] = value if count else ""
    clauses = words.count(",") + 1
    return found | {"length": min(_CLAUSES, key=lambda one: min(abs(clauses - each) for each in _CLAUSES[one]))}
