"""Small programming problems with tests, in families, as data for demonstrations and experiments.

A family is a kind of one-line function with a constant, such as "add k". Problems of one family differ in the constant,
so that a model can be tested on constants, and on families, that it was never trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from curation.verification.checks import PythonTests, encode_check

_NUMBERS = (0, 1, -3, 7, 12, 25, -18, 100)
_TEXTS = ("", "a", "banana", "Level", "hello world", "tennessee", "committee", "abracadabra")
_LISTS: tuple[list[int], ...] = (
    [],
    [0],
    [1, 2, 3],
    [-4, 7, 10, 7],
    [5, 5, 5],
    [12, -1, 3, 8, 2],
    [100, 20, 3],
    [6, 9, 2, 4, 7, 1],
)
_WORDS: tuple[list[str], ...] = (
    [],
    ["a"],
    ["apple", "bear", "sun"],
    ["tree", "to", "stone"],
    ["Moon", "mouse", "bat", "tiger"],
    ["see", "tea", "book", "letter"],
    ["storm", "bay", "at", "seven", "token"],
    ["balloon", "mint", "tab", "some"],
)
_LETTERS = ("a", "b", "e", "t")
_SMALL = (2, 3, 4, 5)

Constant = int | str
Value = int | str | list[int] | list[str]


@dataclass(frozen=True)
class _Family:
    name: str
    task: str
    """What the function returns, with the placeholder {k}."""
    parameter: str
    inputs: Sequence[Value]
    constants: Sequence[Constant]
    solution: Callable[..., object]
    """Maps input and constant to the right value."""


@dataclass(frozen=True)
class ExampleProblem:
    """One problem: its text, the family it belongs to, and its check as the column `checks` holds it."""

    text: str
    family: str
    check: str


_FAMILIES = (
    _Family("add", "{k} more than the number n", "n", _NUMBERS, (3, 7, 11, 20), lambda n, k: n + k),
    _Family("subtract", "the number n minus {k}", "n", _NUMBERS, (2, 5, 9, 14), lambda n, k: n - k),
    _Family("multiply", "the number n times {k}", "n", _NUMBERS, (3, 4, 6, 12), lambda n, k: n * k),
    _Family("remainder", "the remainder of n divided by {k}", "n", _NUMBERS, (3, 4, 7, 9), lambda n, k: n % k),
    _Family("divisible", "whether n is divisible by {k}", "n", _NUMBERS, (3, 4, 5, 7), lambda n, k: n % k == 0),
    _Family("greater", "whether n is greater than {k}", "n", _NUMBERS, (5, 7, 11, 24), lambda n, k: n > k),
    _Family("distance", "the distance between n and {k}", "n", _NUMBERS, (4, 7, 10, 15), lambda n, k: abs(n - k)),
    _Family("at most", "n, but at most {k}", "n", _NUMBERS, (6, 7, 10, 20), min),
    _Family("first characters", "the first {k} characters of the text s", "s", _TEXTS, _SMALL, lambda s, k: s[:k]),
    _Family("last characters", "the last {k} characters of the text s", "s", _TEXTS, _SMALL, lambda s, k: s[-k:]),
    _Family("repeat", "the text s repeated {k} times", "s", _TEXTS, _SMALL, lambda s, k: s * k),
    _Family("count", "how often the letter {k!r} is in the text s", "s", _TEXTS, _LETTERS, lambda s, k: s.count(k)),
    _Family("remove", "the text s without the letter {k!r}", "s", _TEXTS, _LETTERS, lambda s, k: s.replace(k, "")),
    _Family("ends with", "whether the text s ends with {k!r}", "s", _TEXTS, _LETTERS, lambda s, k: s.endswith(k)),
    _Family(
        "longer", "whether the text s is longer than {k} characters", "s", _TEXTS, (1, 4, 6, 9), lambda s, k: len(s) > k
    ),
    _Family("first elements", "the first {k} elements of the list", "items", _LISTS, _SMALL, lambda x, k: x[:k]),
    _Family(
        "add to each",
        "a list of the numbers in the list, each increased by {k}",
        "items",
        _LISTS,
        (2, 5, 8, 10),
        lambda x, k: [n + k for n in x],
    ),
    _Family(
        "above",
        "a list of the numbers in the list that are greater than {k}",
        "items",
        _LISTS,
        (2, 4, 6, 9),
        lambda x, k: [n for n in x if n > k],
    ),
    _Family(
        "multiples",
        "a list of the numbers in the list that are divisible by {k}",
        "items",
        _LISTS,
        _SMALL,
        lambda x, k: [n for n in x if n % k == 0],
    ),
    _Family(
        "occurrences", "how often the number {k} is in the list", "items", _LISTS, (2, 3, 5, 7), lambda x, k: x.count(k)
    ),
    _Family(
        "index above",
        "the index of the first number in the list that is greater than {k}, or -1 if there is none",
        "items",
        _LISTS,
        (2, 4, 6, 9),
        lambda x, k: next((i for i, n in enumerate(x) if n > k), -1),
    ),
    _Family(
        "starting with",
        "a list of the words that start with the letter {k!r}",
        "words",
        _WORDS,
        ("a", "b", "s", "t"),
        lambda x, k: [w for w in x if w.startswith(k)],
    ),
    _Family(
        "longer words",
        "a list of the words that are longer than {k} letters",
        "words",
        _WORDS,
        _SMALL,
        lambda x, k: [w for w in x if len(w) > k],
    ),
    _Family(
        "containing",
        "how many of the words contain the letter {k!r}",
        "words",
        _WORDS,
        _LETTERS,
        lambda x, k: sum(k in w for w in x),
    ),
)
FAMILIES = tuple(family.name for family in _FAMILIES)
"""Names of the families."""
CONSTANTS_PER_FAMILY = 4


def example_problems(
    families: Sequence[str] = FAMILIES, constants: Sequence[int] = (0, 1, 2, 3)
) -> list[ExampleProblem]:
    """Return the problems of some families with some of their constants.

    Args:
        families: names of `FAMILIES`.
        constants: which of the four constants of each family.
    """
    chosen = [family for family in _FAMILIES if family.name in families]
    return [_problem(family, family.constants[number]) for family in chosen for number in constants]


def _problem(family: _Family, constant: Constant) -> ExampleProblem:
    tests = "".join(
        f"result = f({value!r})\nassert result == {expected!r} and type(result) is {type(expected).__name__}\n"
        for value in family.inputs
        for expected in [family.solution(value, constant)]
    )
    return ExampleProblem(
        text=f"Write a Python function f({family.parameter}) that returns {family.task.format(k=constant)}.",
        family=family.name,
        check=encode_check(PythonTests(entry_point="f", tests=tests)),
    )
