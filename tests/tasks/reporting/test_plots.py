from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread

from tasks.reporting.plots import (
    COLORS,
    MetricPoint,
    TextPerplexity,
    plot_curves,
    plot_forecast,
    plot_perplexity_histogram,
)

_METRICS = ("perplexity", "perplexity_at_best_temperature", "rare_word_coverage", "vocabulary_size", "repetition")


def _points(run: str, generations: int, growth: float = 1.0) -> list[MetricPoint]:
    return [
        MetricPoint(run, generation, metric, start * growth**generation)
        for metric, start in zip(_METRICS, (100.0, 90.0, 0.5, 900.0, 0.1), strict=True)
        for generation in range(generations)
    ]


def _has_color(picture: Path, color: str) -> np.ndarray:
    """Return a mask of the pixels that have a color."""
    return np.abs(imread(picture)[:, :, :3] - np.array(to_rgb(color))).max(2) < 0.02


@pytest.mark.slow
def test_each_run_has_a_line_in_its_color_in_each_panel(tmp_path: Path) -> None:
    plot_curves([*_points("replace", 4, 1.4), *_points("anchor", 4, 0.9)], tmp_path / "curves.png")
    for color in COLORS[:2]:
        mask = _has_color(tmp_path / "curves.png", color)
        middle, center = (size // 2 for size in mask.shape)
        for panel in (
            mask[:middle, :center],
            mask[:middle, center:],
            mask[middle:, :center],
            mask[middle:, center:],
        ):
            assert panel.sum() > 100
    assert not _has_color(tmp_path / "curves.png", COLORS[2]).any()


def test_a_run_with_one_generation_is_a_horizontal_line_beside_longer_ones(tmp_path: Path) -> None:
    plot_curves([*_points("replace", 4, 1.4), *_points("human-only", 1)], tmp_path / "curves.png")
    mask = _has_color(tmp_path / "curves.png", COLORS[1])
    panel = mask[mask.shape[0] // 2 :, : mask.shape[1] // 2]
    columns = np.flatnonzero(panel.any(0))
    assert columns.max() - columns.min() > 0.7 * panel.shape[1]
    assert np.ptp(np.flatnonzero(panel.any(1))) < 12


@pytest.mark.slow
def test_the_same_values_make_the_same_picture_and_other_values_another(tmp_path: Path) -> None:
    for name, growth in (("one", 1.2), ("same", 1.2), ("other", 1.3)):
        plot_curves(_points("replace", 4, growth), tmp_path / f"{name}.png")
    one, same, other = (imread(tmp_path / f"{name}.png") for name in ("one", "same", "other"))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("runs", [1, 12])
def test_any_number_of_runs_can_be_drawn(tmp_path: Path, runs: int) -> None:
    plot_curves([point for run in range(runs) for point in _points(f"run-{run}", 1)], tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").shape[:2] > (900, 1400)


@pytest.mark.slow
def test_a_forecast_is_dashed_and_measured_values_are_solid(tmp_path: Path) -> None:
    forecast = [
        MetricPoint("replace", generation, metric, 0.5)
        for generation in range(4)
        for metric in ("type_coverage", "rare_word_coverage", "entropy")
    ]
    plot_forecast(forecast, [], tmp_path / "forecast.png")
    measured = [point._replace(value=point.value / 2) for point in forecast]
    plot_forecast(forecast, measured, tmp_path / "both.png")
    alone, both = (_has_color(tmp_path / name, COLORS[0]).sum() for name in ("forecast.png", "both.png"))
    assert 0 < alone < both / 1.5


def test_each_generation_has_a_histogram_of_its_texts_where_they_lie(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [
        TextPerplexity(run, generation, float(perplexity))
        for run in ("replace", "anchor")
        for generation, middle in ((1, 50.0), (3, 50.0 if run == "anchor" else 8.0))
        for perplexity in rng.lognormal(np.log(middle), 0.2, 200)
    ]
    plot_perplexity_histogram(texts, tmp_path / "histogram.png")
    late = _has_color(tmp_path / "histogram.png", to_hex(colormaps["viridis"](0.9)))
    center = late.shape[1] * 44 // 100
    replace, anchor = (np.flatnonzero(half.any(0)).mean() for half in (late[:, :center], late[:, center : 2 * center]))
    assert replace < anchor - 30
