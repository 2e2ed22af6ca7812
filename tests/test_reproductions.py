"""Rows of the published experiments: run once, remembered with their settings, and chosen by name."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks.figures import Figure
from benchmarks.reproductions import ROWS, measure, settings_of


def test_a_finished_row_is_not_run_again_unless_its_settings_change(tmp_path: Path) -> None:
    ran: list[int] = []

    def row(*, rounds: int = 3) -> Iterator[Figure]:
        ran.append(rounds)
        yield Figure("rounds", rounds, "", "3", rounds == 3)

    for _ in range(2):
        figures = measure(rows={"small": row}, work=tmp_path, results=tmp_path)
        assert figures[0] == Figure("small: rounds", 3, "", "3", True)
    assert ran == [3]
    assert measure(rows={"small": partial(row, rounds=4)}, work=tmp_path, results=tmp_path)[0].holds is False
    assert ran == [3, 4]


def test_a_row_that_was_not_chosen_stays_as_it_was_written(tmp_path: Path) -> None:
    def row() -> Iterator[Figure]:
        yield Figure("claim", 1, "")

    written = {"figures": [{"name": "other: claim", "value": 7, "unit": "", "goal": "7", "holds": True}]}
    (tmp_path / "reproductions.json").write_text(json.dumps(written))
    figures = measure(["one"], rows={"other": row, "one": row}, work=tmp_path, results=tmp_path)
    assert [(one.name, one.value) for one in figures[:2]] == [("other: claim", 7), ("one: claim", 1)]
    with pytest.raises(ValueError, match="there is no row two; rows: one"):
        measure(["two"], rows={"one": row}, work=tmp_path, results=tmp_path)


def test_every_row_has_settings_that_can_be_kept() -> None:
    assert all(isinstance(settings_of(row), dict) for row in ROWS.values())
