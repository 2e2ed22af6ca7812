"""The demo at its quickest: two loops by counting words, and the story they tell."""

from pathlib import Path

import pytest

from flows.config.site import Site
from flows.demo import demo, demo_ingest, demo_recipes
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.orchestration.prefect import without_prefect
from tests.conftest import human_texts


@pytest.mark.processes
def test_one_loop_loses_its_language_and_the_other_does_not(tmp_path: Path) -> None:
    source = tmp_path / "mine.txt"
    source.write_text("\n\n".join(human_texts(500)))
    site = Site(store=tmp_path / "store")
    with without_prefect():
        folder = demo(demo_recipes(quick=True, seed=0), site, str(source), 150)
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
    naive, guarded, human_only = demo_recipes(quick=False, seed=3)
    assert naive.train.model_dump(exclude={"human_ratio_schedule"}) == guarded.train.model_dump(
        exclude={"human_ratio_schedule"}
    )
    assert human_only.num_generations == 0
    assert {recipe.seed for recipe in (naive, guarded, human_only)} == {3}
    assert human_only.train.model_dump()["load_best_model_at_end"]
