"""The demo at its quickest: two loops by counting words, and the story they tell."""

import json
from pathlib import Path

import pytest

from flows.config.memory import plan_memory
from flows.config.site import Site
from flows.demo import demo, demo_ingest, demo_recipes, fits_in_parallel
from heirloom.errors import HeirloomError
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.backends import TransformerTraining
from tasks.backends.machine import Machine
from tasks.backends.models.pretrained import SMOLLM2_CONFIG
from tasks.orchestration.prefect import without_prefect
from tests.conftest import human_texts


@pytest.mark.processes
def test_one_loop_loses_its_language_and_the_other_does_not(tmp_path: Path) -> None:
    source = tmp_path / "mine.txt"
    source.write_text("\n\n".join(human_texts(500)))
    site = Site(store=tmp_path / "store")
    with without_prefect():
        folder = demo(demo_recipes(0, quick=True), site, str(source), 150)
    rows = open_catalog(site.store).sql(QUERIES["run_outcomes"]).fetchall()
    ends = {
        row[0]: dict(
            zip(
                ("perplexity", "recalibrated", "rare", "types", "repetition"),
                zip(row[2::2], row[3::2], strict=True),
                strict=True,
            )
        )
        for row in rows
    }
    first, last = ends["naive"]["perplexity"]
    assert last > 2 * first
    assert ends["naive"]["types"][1] < 0.7 * ends["naive"]["types"][0]
    first, last = ends["guarded"]["perplexity"]
    assert last < 1.25 * first
    assert "naive" in (folder / "report.md").read_text()


def test_python_s_documentation_is_split_by_file_and_a_text_of_one_s_own_by_record(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("some text")
    assert demo_ingest("python-docs", 500).split_by == "source"
    assert demo_ingest(str(tmp_path), 500).split_by == "source"
    assert demo_ingest(str(tmp_path / "mine.txt"), 500).split_by == "record"


def test_the_full_demo_has_a_human_only_line_and_equal_steps() -> None:
    naive, guarded, human_only = demo_recipes(3)
    assert naive.train.model_dump(exclude={"human_ratio_schedule"}) == guarded.train.model_dump(
        exclude={"human_ratio_schedule"}
    )
    assert human_only.num_generations == 0
    assert {recipe.seed for recipe in (naive, guarded, human_only)} == {3}
    assert human_only.train.model_dump()["load_best_model_at_end"]


@pytest.fixture
def small_model(tmp_path: Path) -> str:
    """A folder with the configuration of SmolLM2 alone, which suffices to plan with."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMOLLM2_CONFIG))
    return str(folder)


def test_the_demo_of_a_base_model_trains_and_measures_both_loops_alike(small_model: str) -> None:
    naive, guarded = demo_recipes(5, base_model=small_model)
    assert isinstance(naive.train, TransformerTraining)
    assert (naive.train.base_model, naive.train.init_from) == (small_model, "previous")
    assert naive.train.model_dump(exclude={"human_ratio_schedule"}) == guarded.train.model_dump(
        exclude={"human_ratio_schedule"}
    )
    assert naive.evaluate == guarded.evaluate
    assert (naive.mix.policy, guarded.mix.policy) == ("replace", "anchor")
    assert {recipe.seed for recipe in (naive, guarded)} == {5}


def test_a_base_model_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(HeirloomError, match="There is no model folder"):
        demo_recipes(0, base_model=str(tmp_path / "nowhere"))


def test_loops_run_in_turn_where_memory_does_not_suffice_for_both(
    small_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, recipes = Site(store=tmp_path), demo_recipes(0, base_model=small_model)
    for memory, is_enough in ((64 << 30, True), (8 << 30, False)):
        machine = Machine(memory=memory, free_memory=memory)
        monkeypatch.setattr("flows.config.memory.this_machine", lambda machine=machine: machine)
        plan = plan_memory(recipes[0].resolve_auto(), site)
        assert plan is not None
        assert plan.needed < memory
        assert fits_in_parallel(recipes, site) == is_enough
