"""What the terminal says before and after a run."""

import io
import json

from rich.console import Console

from curation.splitting import WithholdSettings
from flows.demo import demo_recipes
from flows.evolve import evolve
from flows.recipe import Recipe, Site
from flows.story import tell_ending, tell_met, tell_opening
from storage.catalog import open_catalog
from tasks.coat import without_coat
from tasks.report import report
from tasks.withhold import withhold
from tests.conftest import human_texts


def test_the_opening_names_every_arm_with_its_question_and_its_steps() -> None:
    out = io.StringIO()
    tell_opening(Console(file=out, width=200), demo_recipes(quick=False, seed=0), 400)
    for words in ("400 passages", "naive", "guarded", "human-only", "105 steps on human text, then 210 a generation"):
        assert words in out.getvalue()


def test_the_ending_tells_the_story_in_eighty_columns(ingested: Site, recipe: Recipe) -> None:
    with without_coat():
        evolve(recipe, ingested)
        folder = report(ingested.store, ["tiny"], "tiny")
    out = io.StringIO()
    tell_ending(Console(file=out, width=80), ingested.store, folder, {"train": 3.2, "mix": 0.01})
    table = [line for line in out.getvalue().splitlines() if line.startswith("tiny")]
    assert table[0].count("→") == 5
    assert "…" not in table[0]
    assert "train 3 s" in out.getvalue()
    assert "heirloom sql" in out.getvalue()


def test_what_met_a_set_is_told_by_place_and_nothing_is_told_too(ingested: Site) -> None:
    reserve = open_catalog(ingested.store).sql("select text from reserve limit 3").fetchall()
    for name, texts in (("exam", [text for (text,) in reserve]), ("quiz", human_texts(5, seed=8))):
        source = ingested.store / f"{name}.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        with without_coat():
            withhold(ingested.store, "letters", name, [str(source)], WithholdSettings())
    out = io.StringIO()
    tell_met(Console(file=out, width=80), ingested.store, "letters", "exam")
    (line,) = [line.split() for line in out.getvalue().splitlines() if line.strip().startswith("reserve")]
    assert line[:3] == ["reserve", "3", "1"]
    out = io.StringIO()
    tell_met(Console(file=out, width=80), ingested.store, "letters", "quiz")
    assert out.getvalue() == "nothing in the store has met quiz so far\n"
