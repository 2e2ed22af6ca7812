"""What is asked of chains, and what cannot be."""

from pathlib import Path

import pytest
from rich.console import Console

from flows.chaining import Asked, show_chains
from flows.recipe import Site


def _shown(store: Path, **asked: object) -> str:
    console = Console(record=True, width=150)
    values = {
        "run": "tiny",
        "generation": None,
        "steps": 3,
        "chains": 2,
        "temperature": 0.5,
        "tokens": 8,
        "template": "",
        "seed": 0,
    }
    show_chains(console, Asked(**(values | asked)), Site(store=store))
    return console.export_text()


def test_both_ways_of_speaking_are_shown_step_by_step(ripe: Path) -> None:
    said = _shown(ripe, template="The old {text}")
    assert "sampled at 0.5" in said and "greedy" in said
    assert "drift from the seed" in said


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"run": "ghost"}, "there is no run ghost"),
        ({"generation": 9}, "run tiny has no model of generation 9; generations with one: 0, 1, 2, 3"),
        ({"chains": 900}, "900 chains were asked for, and letters holds out"),
        ({"template": "again"}, "holds no {text}"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(ripe: Path, asked: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("{", r"\{")):
        _shown(ripe, **asked)
