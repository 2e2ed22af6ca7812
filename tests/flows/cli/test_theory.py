"""The commands of `heirloom theory`, from the command line."""

from pathlib import Path

import pytest

from flows.cli.app import app


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    app(["theory", *arguments], standalone_mode=False)
    return " ".join(capsys.readouterr().out.split())


def test_all_scenes_are_told_where_none_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "replay", "--rounds", "60")
    assert [f"Theorem {number}" in said for number in ("4.1", "5.1", "6.1", "7.3")] == [True] * 4


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no scene six; scenes: burn-in, echo, witnesses, four"):
        app(["theory", "replay", "--scene", "six"], standalone_mode=False)


def test_chains_are_shown_of_the_newest_model_of_a_run(
    finished_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("chains", "--run", "tiny", "--store", str(finished_store), "--steps", "12", "--chains", "5")
    said = _said(capsys, *asked)
    assert "5 chains of 12 steps by generation 3 of tiny" in said
    assert "greedy: 5 of 5 chains come back" in said
    assert "are recovered: the same" in said
    assert "by generation 0 of tiny" in _said(capsys, *asked, "--generation", "0")
