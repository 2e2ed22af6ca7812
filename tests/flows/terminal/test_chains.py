"""What is asked of chains, and what cannot be."""

from pathlib import Path

import pytest
from rich.console import Console

from flows.config.site import Site
from flows.terminal.chains import ChainOptions, show_chains
from tasks.backends import Resources
from tests.support.openai_server import answering


def _shown(store: Path, resources: Resources | None = None, **asked: object) -> str:
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
    show_chains(console, ChainOptions(**(values | asked)), Site(store=store, resources=resources or Resources()))
    return console.export_text()


def test_both_ways_of_speaking_are_shown_step_by_step(finished_store: Path) -> None:
    said = _shown(finished_store, template="The old {text}")
    assert "sampled at 0.5" in said and "greedy" in said
    assert "drift from the seed" in said


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"run": "ghost"}, "There is no run ghost"),
        ({"generation": 9}, "run tiny has no model of generation 9; generations with one: 0, 1, 2, 3"),
        ({"chains": 900}, "900 chains were asked for, and letters holds out"),
        ({"template": "again"}, "holds no {text}"),
        ({"teacher": "wise"}, "either run tiny speaks, or teacher wise: leave one of them out"),
        ({"run": "", "teacher": "wise"}, "The teacher is 'wise', but the site has neither resources.server_urls"),
        ({"human": "letters"}, "the text letters is what a teacher's chains begin from, and no teacher is named"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    finished_store: Path, asked: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence.replace("{", r"\{")):
        _shown(finished_store, **asked)


def test_a_teacher_in_a_folder_begins_from_a_text_of_the_store(finished_store: Path) -> None:
    folder = finished_store / "runs/tiny/generation=0/attempt=1/model"
    site = Resources.model_validate({"local_models": {"wise": str(folder)}})
    said = _shown(finished_store, site, run="", teacher="wise", human="letters")
    assert "2 chains of 3 steps by wise" in said
    # As the run's own model does, from the same texts.
    assert said.replace("by wise", "by generation 0 of tiny") == _shown(finished_store, generation=0)


def test_a_served_teacher_hears_the_template_as_the_message_of_a_user(tmp_path: Path) -> None:
    with answering(models=("wise",)) as talk:
        said = _shown(
            tmp_path, Resources(server_urls=(talk.address,)), run="", teacher="wise", template="Otherwise: {text}"
        )
    assert "2 chains of 3 steps by wise" in said
    assert len(talk.bodies) == 12
    assert all(body["messages"][-1]["content"].startswith("Otherwise: ") for body in talk.bodies)
