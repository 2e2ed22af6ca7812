"""`heirloom theory`."""

from pathlib import Path

import pytest

from flows.cli.app import app


def _output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    app(["theory", *arguments], standalone_mode=False)
    return " ".join(capsys.readouterr().out.split())


def test_all_scenes_are_shown_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    output = _output(capsys, "replay", "--rounds", "60")
    assert [f"Theorem {number}" in output for number in ("4.1", "5.1", "6.1", "7.3")] == [True] * 4


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"There is no scene `witness`. Did you mean `witnesses`\? Scenes: burn-in, echo, witnesses, four",
    ):
        app(["theory", "replay", "--scene", "witness"], standalone_mode=False)


def test_chains_use_the_newest_model_of_a_run(finished_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("chains", "--run", "tiny", "--store", str(finished_store), "--steps", "12", "--chains", "5")
    output = _output(capsys, *arguments)
    assert "5 chains of 12 steps by generation 3 of tiny" in output
    assert "greedy: 5 of 5 chains repeat a text" in output
    assert "they are: the same" in output
    assert "by generation 0 of tiny" in _output(capsys, *arguments, "--generation", "0")
