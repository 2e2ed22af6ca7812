"""Documentation matches the code: reference pages are generated, examples run, and withdrawn words do not return."""

import json
import re
import shlex
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.main import get_command

from curation.splitting import IngestSettings
from flows.cli.app import app
from flows.config.loading import apply_overrides, load_recipe
from flows.config.recipe import Recipe
from tests.conftest import human_texts
from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "docs"))


def test_the_reference_pages_are_generated_from_the_code() -> None:
    from reference import pages

    for page, content in pages().items():
        assert page.read_text() == content, f"{page.name} differs from the code; run: make docs"


def test_the_command_reference_is_linked_and_has_every_command() -> None:
    assert "(docs/commands.md)" in (ROOT / "README.md").read_text()
    page = (ROOT / "docs/commands.md").read_text()
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"## heirloom {command.name or command.callback.__name__.replace('_', '-')}\n" in page
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands if group.typer_instance else ():
            assert command.callback is not None
            name = command.name or command.callback.__name__.replace("_", "-")
            assert f"## heirloom {group.name} {name}\n" in page


def test_every_command_in_the_readme_exists() -> None:
    commands = {
        command.name or command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if command.callback
    }
    commands |= {str(group.name) for group in app.registered_groups}
    named = set(re.findall(r"(?:^|`)heirloom ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named <= commands
    assert len(named) >= 6


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)) <= targets


def test_every_command_helps_itself_with_an_example() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__
        assert f"heirloom {command.name or command.callback.__name__.replace('_', '-')}" in (command.epilog or "")
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands if group.typer_instance else ():
            assert command.callback is not None
            assert command.callback.__doc__
            assert f"heirloom {group.name} {command.name or command.callback.__name__.replace('_', '-')}" in (
                command.epilog or ""
            )


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"


@pytest.mark.processes
def test_withdrawn_words_do_not_return() -> None:
    from check_words import remaining

    found = list(remaining())
    assert not found, "replace these words, see docs/withdrawn_words.txt:\n" + "\n".join(found)


def test_every_recipe_key_on_a_page_exists() -> None:
    tables = ("train", "generate", "prompts", "curate", "mix", "evaluate", "gate", "review", "budget", "resources")
    known = set(re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs/recipe.md").read_text(), re.MULTILINE))
    parents = {".".join(key.split(".")[:size]) for key in known for size in range(1, key.count(".") + 2)}
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "deploy/README.md"]:
        if page.name not in {"log.md", "recipe.md", "storage.md"}:
            for key in re.findall(rf"`((?:{'|'.join(tables)})\.[a-z_.]+)[` =]", page.read_text()):
                assert key in parents or key.rpartition(".")[0] in known or key.endswith(".py"), (
                    f"{page.name}: `{key}` is not a key of docs/recipe.md"
                )


def test_every_reproduced_experiment_has_a_section_of_its_page() -> None:
    from benchmarks.reproductions.run import ROWS

    sections = re.findall(r"<!-- row (\S+): begin -->", (ROOT / "docs/reproductions.md").read_text())
    assert set(sections) == {*ROWS, "all"}


def test_every_command_at_published_size_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (ROOT / "docs/reproductions.md").read_text()
    (code,) = re.findall(r"```python\n(# rewards.py.*?)```", page, re.DOTALL)
    (tmp_path / "rewards.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    blocks = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ")
    lines = [line.partition("heirloom ")[2] for line in blocks.splitlines() if re.match(r"(\S+=\S+ )?heirloom ", line)]
    counts = Counter[str]()
    for words in map(shlex.split, lines):
        command, parameters = _parsed(words)
        for name in [parameters["recipe"]] if "recipe" in parameters else parameters.get("recipes", ()):
            assert load_recipe(name, parameters["changes"]).resolve_auto().description
        if command == "ingest":
            IngestSettings.model_validate(apply_overrides({}, parameters["settings"] or ()))
        counts[command] += 1
    assert counts["run"] >= 8 and counts["ingest"] >= 8 and counts["chains"] == counts["compare"] == 1


def _parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the command and the parameters that it would receive, without running it."""
    group: Any = get_command(app)
    while True:
        context = group.make_context("heirloom", words, resilient_parsing=False)
        if not hasattr(group, "resolve_command"):
            return group.name, context.params
        _, group, words = group.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.processes
def test_the_tour_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tour.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "tour.md", "exec"), names)
    rows = names["answer"].fetchall()  # type: ignore[attr-defined]
    assert ("human" in {row[1] for row in rows}) and ("synthetic" in {row[1] for row in rows})
    assert [row for row in rows if row[0] == 0] == [(0, "human", 200)]


def test_the_page_on_curating_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/curate.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "curate.md", "exec"), names)
    assert len(blocks) >= 4


def test_the_examples_of_user_code_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from curation.prompts.plan import PromptSources, plan_prompts
    from curation.selection.best_of import score_responses
    from tasks.evaluation.custom_metrics import run_custom_metrics

    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/extending.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        if name := re.match(r"# (\S+\.py)\n", block):
            Path(name[1]).write_text(block)
        else:
            exec(compile(block, "extending.md", "exec"), {})
    recipes = [
        Recipe.model_validate({"name": "mine", **tomllib.loads(block)})
        for block in re.findall(r"```toml\n(\[.*?)```", page, re.DOTALL)
    ]
    texts = [*human_texts(6), "The bridge was gone, and all rights were reserved. All rights reserved."]
    of_filter, of_metric, of_prompts, of_reward = recipes
    assert [each.name for each in of_filter.curate.build_filters()] == ["empty", "exact", "NoBoilerplate", "minhash"]
    (measured,) = run_custom_metrics(of_metric.evaluate.custom_metrics, "texts", texts, len(texts))
    assert measured.metric == of_metric.gate.limits[0].metric
    prompts = plan_prompts(of_prompts.prompts, PromptSources(records=texts), 0)
    assert len(prompts) == len(texts) and {prompt.attributes["tone"] for prompt in prompts} <= {"formal", "friendly"}
    assert score_responses(of_reward.curate.best_of, ["", ""], ["one two", "one"]).tolist() == [-2, -1]

    Path("new.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (commands,) = re.findall(r"```sh\n(heirloom curate.*?)```", page, re.DOTALL)
    for command in commands.splitlines():
        app(shlex.split(command)[1:], standalone_mode=False)
    for folder in ("curated", "strict"):
        decisions = pq.read_table(f"{folder}/decisions.parquet").to_pylist()
        dropped = [(row["filter"], row["reason"]) for row in decisions if not row["kept"]]
        assert dropped == [("NoBoilerplate", "contains boilerplate")]


@pytest.mark.processes
def test_the_page_of_faults_is_generated_from_the_tests() -> None:
    from faults import PAGE, page

    assert PAGE.read_text() == page(), "run: python docs/faults.py"
