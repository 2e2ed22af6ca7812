"""Transcripts of the replay games: rounds, errors and conclusions."""

import pytest
from rich.console import Console

from flows.terminal.replay_game import print_transcript


def _transcript(scene: str, rounds: int = 60) -> str:
    console = Console(record=True, width=110)
    print_transcript(console, scene, rounds)
    return " ".join(console.export_text().split())


@pytest.mark.parametrize(
    ("scene", "parts"),
    [
        (
            "burn-in",
            ["echo of round 4, foreign", "wrong in 36 of 40 rounds", "wrong in 8 of 40 rounds, last in round 8"],
        ),
        ("echo", ["38 of 38 answers are wrong for one of the two", "4 4 echo of round 3 5 right not in the language"]),
        (
            "witnesses",
            [
                "In round 26 the number 5, which was never generated",
                "last in round 25",
                "wrong in 29 of 60 rounds, last in round 59",
            ],
        ),
        ("four", ["h1- -1, -2, 1, 2, ... h1+ -1 -2 yes illegal", "none of the four"]),
    ],
)
def test_a_scene_prints_its_rounds_and_its_conclusion(scene: str, parts: list[str]) -> None:
    transcript = _transcript(scene)
    for part in parts:
        assert part in transcript


def test_rounds_left_out_are_counted() -> None:
    assert "288 more rounds 144 wrong" in _transcript("witnesses", 300)
