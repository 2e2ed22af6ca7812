"""Commands that ask: a question is answered, a mistake in it is one sentence."""

from pathlib import Path

import pytest

from flows.cli import app
from flows.recipe import Site


def test_asking_without_a_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no store"):
        app(["sql", "select 1", "--store", str(tmp_path / "none")], standalone_mode=False)


def test_a_question_is_answered(ingested: Site, capsys: pytest.CaptureFixture[str]) -> None:
    app(["sql", "select count(*) as n from heldout", "--store", str(ingested.store)], standalone_mode=False)
    assert "n" in capsys.readouterr().out
