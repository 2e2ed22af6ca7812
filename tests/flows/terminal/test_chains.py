"""Printed chains and language games."""

from pathlib import Path

import pytest
from rich.console import Console

from flows.config.site import Site
from flows.terminal.chains import ChainOptions, show_chains
from flows.terminal.replay_game import print_transcript
from tasks.backends import Resources
from tests.support.openai_server import answering


def _output(store: Path, resources: Resources | None = None, **options: object) -> str:
    console = Console(record=True, width=150)
    values = {
        "run": "tiny",
        "generation": None,
        "steps": 3,
        "num_chains": 2,
        "temperature": 0.5,
        "max_tokens": 8,
        "template": "",
        "seed": 0,
    }
    show_chains(console, ChainOptions(**(values | options)), Site(store=store, resources=resources or Resources()))
    return console.export_text()


def test_greedy_and_sampled_chains_are_shown_step_by_step(finished_store: Path) -> None:
    output = _output(finished_store, template="The old {text}")
    assert "sampled at 0.5" in output and "greedy" in output
    assert "drift from seed" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": "ghost"}, "There is no run ghost"),
        ({"generation": 9}, "Run tiny has no model of generation 9. Generations with a model: 0, 1, 2, 3"),
        ({"num_chains": 900}, "`--chains 900` requires 900 held-out texts, but letters has"),
        ({"template": "again"}, "does not contain {text}"),
        ({"teacher": "wise"}, "`--run tiny` and `--teacher wise` both name a model. Pass one of them."),
        ({"run": "", "teacher": "wise"}, "The teacher is 'wise', but the site has neither resources.server_urls"),
        ({"dataset": "letters"}, "`--dataset letters` starts the chains of a teacher. Pass `--teacher MODEL`."),
    ],
)
def test_options_that_do_not_fit_are_refused(finished_store: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        _output(finished_store, **options)


def test_a_local_teacher_starts_from_texts_of_a_dataset(finished_store: Path) -> None:
    folder = finished_store / "runs/tiny/generation=0/attempt=1/model"
    site = Resources.model_validate({"local_models": {"wise": str(folder)}})
    output = _output(finished_store, site, run="", teacher="wise", dataset="letters")
    assert "2 chains of 3 steps by wise" in output
    # The run's own model starts from the same texts.
    assert output.replace("by wise", "by generation 0 of tiny") == _output(finished_store, generation=0)


@pytest.mark.processes
def test_a_served_teacher_receives_the_template_as_a_user_message(tmp_path: Path) -> None:
    with answering(models=("wise",)) as server:
        output = _output(
            tmp_path, Resources(server_urls=(server.address,)), run="", teacher="wise", template="Otherwise: {text}"
        )
    assert "2 chains of 3 steps by wise" in output
    assert len(server.bodies) == 12
    assert all(body["messages"][-1]["content"].startswith("Otherwise: ") for body in server.bodies)


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


@pytest.mark.slow
def test_rounds_left_out_are_counted() -> None:
    assert "288 more rounds 144 wrong" in _transcript("witnesses", 300)
