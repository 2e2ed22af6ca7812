from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from curation.splitting import DedupSettings, IngestSettings
from flows.config.loading import load_recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.query.catalog import open_catalog
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tasks.reporting.point_plots import parse_points, plot_points, plot_points_by_generation
from tasks.reporting.report import report


@pytest.mark.parametrize(
    ("numbers", "can_plot"), [(1, True), (2, True), (3, False), (9, False), (64, True), (65, False)]
)
def test_numbers_pairs_and_square_images_can_be_plotted(numbers: int, can_plot: bool) -> None:
    points = parse_points([" ".join(["0.5"] * numbers)] * 3)
    assert (points is not None) == can_plot


@pytest.mark.parametrize("texts", [[], ["the old river"], ["1 2", "3"], ["nan nan"]])
def test_texts_that_are_not_points_are_not_parsed(texts: list[str]) -> None:
    assert parse_points(texts) is None


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [1, 2, 64])
def test_the_same_points_make_the_same_picture_and_other_points_another(tmp_path: Path, numbers: int) -> None:
    rng = np.random.default_rng(0)
    human = rng.normal(0, 1, (200, numbers))
    for name, spread in (("one", 1.0), ("same", 1.0), ("other", 0.1)):
        plot_points(human, {("replace", 0): human, ("replace", 1): human[:100] * spread}, tmp_path / f"{name}.png")
    one, same, other = (imread(tmp_path / f"{name}.png") for name in ("one", "same", "other"))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.processes
def test_the_report_on_a_run_with_points_has_their_plot(site: Site, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "points.jsonl"
    path.write_text("".join(f'{{"text": "{x:.3f} {y:.3f}"}}\n' for x, y in rng.normal(0, 1, (200, 2))))
    changes = ["num_generations=2", "evaluate.num_samples=40", "prompts.prompts_per_human_record=0.2"]
    with without_prefect():
        ingest(site.store, "points", [str(path)], IngestSettings(dedup=DedupSettings(method="exact")))
        evolve(load_recipe("points", changes), site)
    folder = report(site.store, ["points"], "points")
    assert "![Points that each generation generates" in (folder / "report.md").read_text()
    assert imread(folder / "points.png").shape[1] > 600
    values = "select count(*), count(value), bool_and(isfinite(value)) from metrics where subject = 'model'"
    ((rows, numbers, finite),) = open_catalog(site.store).sql(values).fetchall()
    assert rows == numbers > 100
    assert finite


def test_runs_that_generate_words_have_no_plot_of_points(finished_store: Path, tmp_path: Path) -> None:
    assert not plot_points_by_generation(open_catalog(finished_store), tmp_path / "points.png")
    assert not (tmp_path / "points.png").exists()
