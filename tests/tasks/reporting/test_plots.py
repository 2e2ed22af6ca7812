from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread

from tasks.reporting.plots import COLORS, plot_curves, plot_forecast, plot_perplexity_histogram

_METRICS = ("perplexity", "perplexity_at_best_temperature", "rare_word_coverage", "vocabulary_size", "repetition")


def _points(run: str, generations: int, growth: float = 1.0) -> list[tuple[str, int, str, float]]:
    return [
        (run, generation, metric, start * growth**generation)
        for metric, start in zip(_METRICS, (100.0, 90.0, 0.5, 900.0, 0.1), strict=True)
        for generation in range(generations)
    ]


def _coloured(picture: Path, colour: str) -> np.ndarray:
    """Which pixels have the colour of a line."""
    return np.abs(imread(picture)[:, :, :3] - np.array(to_rgb(colour))).max(2) < 0.02


def test_each_run_has_a_line_in_its_colour_in_each_panel(tmp_path: Path) -> None:
    plot_curves([*_points("replace", 4, 1.4), *_points("anchor", 4, 0.9)], tmp_path / "curves.png")
    for colour in COLORS[:2]:
        found = _coloured(tmp_path / "curves.png", colour)
        middle, centre = (size // 2 for size in found.shape)
        for panel in (
            found[:middle, :centre],
            found[:middle, centre:],
            found[middle:, :centre],
            found[middle:, centre:],
        ):
            assert panel.sum() > 100
    assert not _coloured(tmp_path / "curves.png", COLORS[2]).any()


def test_a_run_of_one_generation_is_a_level_line_beside_longer_ones(tmp_path: Path) -> None:
    plot_curves([*_points("replace", 4, 1.4), *_points("human-only", 1)], tmp_path / "curves.png")
    found = _coloured(tmp_path / "curves.png", COLORS[1])
    panel = found[found.shape[0] // 2 :, : found.shape[1] // 2]
    columns = np.flatnonzero(panel.any(0))
    assert columns.max() - columns.min() > 0.7 * panel.shape[1]
    assert np.ptp(np.flatnonzero(panel.any(1))) < 12


def test_other_values_make_another_picture(tmp_path: Path) -> None:
    for name, growth in (("one", 1.2), ("same", 1.2), ("other", 1.3)):
        plot_curves(_points("replace", 4, growth), tmp_path / f"{name}.png")
    one, same, other = (imread(tmp_path / f"{name}.png") for name in ("one", "same", "other"))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("runs", [1, 12])
def test_any_number_of_runs_can_be_drawn(tmp_path: Path, runs: int) -> None:
    plot_curves([point for run in range(runs) for point in _points(f"run-{run}", 1)], tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").shape[:2] > (900, 1400)


def test_a_forecast_is_dashed_and_what_was_measured_is_not(tmp_path: Path) -> None:
    told = [
        ("replace", place, metric, 0.5)
        for place in range(4)
        for metric in ("type_coverage", "rare_word_coverage", "entropy")
    ]
    plot_forecast(told, [], tmp_path / "told.png")
    measured = [(run, place, metric, value / 2) for run, place, metric, value in told]
    plot_forecast(told, measured, tmp_path / "both.png")
    alone, both = (_coloured(tmp_path / name, COLORS[0]).sum() for name in ("told.png", "both.png"))
    assert 0 < alone < both / 1.5


def test_each_generation_has_a_histogram_of_its_texts_where_they_lie(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    points = [
        (run, generation, float(one))
        for run in ("replace", "anchor")
        for generation, middle in ((1, 50.0), (3, 50.0 if run == "anchor" else 8.0))
        for one in dice.lognormal(np.log(middle), 0.2, 200)
    ]
    plot_perplexity_histogram(points, tmp_path / "surprise.png")
    late = _coloured(tmp_path / "surprise.png", to_hex(colormaps["viridis"](0.9)))
    centre = late.shape[1] * 44 // 100
    replace, anchor = (np.flatnonzero(half.any(0)).mean() for half in (late[:, :centre], late[:, centre : 2 * centre]))
    assert replace < anchor - 30
