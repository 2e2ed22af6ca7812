"""Suggested command lines name the store as the user did, and survive a shell."""

import shlex
from pathlib import Path

import pytest
import typer

from flows.cli.app import app
from flows.config.loading import load_site
from heirloom.commands import COMMANDS_WITH_SITE, suggest


def test_without_options_a_suggestion_is_plain() -> None:
    load_site(None, None)
    assert suggest("run", "tiny") == "heirloom run tiny"


@pytest.mark.parametrize("store", ["my store", "it's", "$HOME/x", "s3://bucket/a b", "a;b"])
def test_a_suggestion_repeats_the_store_and_survives_a_shell(store: str) -> None:
    load_site(None, store)
    query = "select count(*) from corpus where run = 'a'"
    assert shlex.split(suggest("sql", query)) == ["heirloom", "sql", query, "--store", store]


def test_a_site_is_repeated_where_the_command_takes_it_and_its_store_elsewhere(tmp_path: Path) -> None:
    site = tmp_path / "the site.toml"
    site.write_text('store = "elsewhere"\n')
    load_site(str(site), None)
    assert shlex.split(suggest("run", "tiny")) == ["heirloom", "run", "tiny", "--site", str(site)]
    assert shlex.split(suggest("show", "tiny")) == ["heirloom", "show", "tiny", "--store", "elsewhere"]
    load_site(str(site), "third")
    words = ["heirloom", "run", "tiny", "--site", str(site), "--store", "third"]
    assert shlex.split(suggest("run", "tiny")) == words
    assert shlex.split(suggest("show", "tiny")) == ["heirloom", "show", "tiny", "--store", "third"]


def test_a_store_of_the_environment_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIRLOOM_STORE", "everywhere")
    load_site(None, "everywhere")
    assert suggest("show", "tiny") == "heirloom show tiny"


def test_the_commands_with_a_site_are_those_of_the_command_line() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    with_site = {name for name, command in commands.items() if any("--site" in item.opts for item in command.params)}
    assert with_site == set(COMMANDS_WITH_SITE)
