"""Plots of generated points by generation, beside the human points: densities, scatter plots or images."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.reporting.plots import COLORS, TEXT_COLOR, TICK_COLOR

if TYPE_CHECKING:
    import duckdb
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

Points: TypeAlias = NDArray[np.float64]
"""Shape (points, numbers)."""
RunGeneration: TypeAlias = tuple[str, int]
"""Run and generation."""

_MAX_COLUMNS = 6
"""Maximum number of generations in a row, the first and the last among them."""
_MIN_IMAGE_SIDE = 4
"""Pixels on a side from which a square number of numbers is an image."""
_IMAGES_PER_SIDE = 5
_MAX_POINTS = 1000
_HUMAN_COLOR = "#cbd2d9"

_GENERATED = """select dataset, run, generation, text from eval_samples join runs using (run)
    where backend in ('gaussian-mixture', 'vae') and prompt = '' order by run, generation"""
_HUMAN = "select text from human_train where dataset = ? order by id limit 1000"


def plot_points_by_generation(catalog: "duckdb.DuckDBPyConnection", path: Path) -> bool:
    """Plot the eval samples of runs whose backend generates points, and return whether there are any.

    Runs on another dataset than the first such run are left out.
    """
    samples = catalog.sql(_GENERATED).fetchall()
    if not samples:
        return False
    dataset = samples[0][0]
    human = parse_points([text for (text,) in catalog.execute(_HUMAN, [dataset]).fetchall()])
    if human is None:
        return False
    texts: dict[RunGeneration, list[str]] = defaultdict(list)
    for sample_dataset, run, generation, text in samples:
        if sample_dataset == dataset:
            texts[run, generation].append(text)
    generated: dict[RunGeneration, Points] = {}
    for run_generation, generation_texts in texts.items():
        points = parse_points(generation_texts)
        if points is not None and points.shape[1] == human.shape[1]:
            generated[run_generation] = points
    if generated:
        plot_points(human, generated, path)
    return bool(generated)


def parse_points(texts: Sequence[str]) -> Points | None:
    """Return the points that texts encode, or None if they are not points of one, two or a square number of numbers."""
    try:
        points = np.array([[float(number) for number in text.split()] for text in texts[:_MAX_POINTS]])
    except ValueError:
        return None
    if points.ndim != 2 or not np.isfinite(points).all():
        return None
    can_plot = points.shape[1] in (1, 2) or _image_side(points) > 0
    return points if can_plot else None


def plot_points(human: Points, generated: Mapping[RunGeneration, Points], path: Path) -> None:
    """Plot a row for each run and a column for each generation.

    Args:
        human: Human points.
        generated: Generated points, with as many numbers each.
        path: PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = {run: _shown_generations(generated, run) for run in dict.fromkeys(run for run, _ in generated)}
    num_columns = max(len(generations) for generations in shown.values())
    figure = plt.figure(figsize=(2.2 * num_columns + 0.4, 2.5 * len(shown)), dpi=130, layout="constrained")
    rows = np.atleast_1d(figure.subfigures(len(shown), 1))
    for position, (run, generations) in enumerate(shown.items()):
        row = rows[position]
        row.suptitle(run, x=0.01, ha="left", fontsize=11, fontweight="bold", color=TEXT_COLOR)
        by_generation = {generation: generated[run, generation] for generation in generations}
        _plot_row(row, human, by_generation, num_columns, COLORS[position % len(COLORS)])
    figure.savefig(path)
    plt.close(figure)


def _shown_generations(generated: Mapping[RunGeneration, Points], run: str) -> list[int]:
    """Return the generations of a run, evenly thinned out if there are too many."""
    generations = sorted(generation for name, generation in generated if name == run)
    positions = np.linspace(0, len(generations) - 1, min(_MAX_COLUMNS, len(generations)))
    return [generations[round(position)] for position in positions]


def _plot_row(
    row: "SubFigure", human: Points, by_generation: Mapping[int, Points], num_columns: int, color: str
) -> None:
    axes = row.subplots(1, num_columns, sharex=True, sharey=True, squeeze=False)[0]
    for axis in axes[len(by_generation) :]:
        axis.set_visible(False)
    for axis, (generation, points) in zip(axes, by_generation.items(), strict=False):
        if human.shape[1] == 1:
            _plot_density(axis, human, points, color)
        elif human.shape[1] == 2:
            _plot_scatter(axis, human, points, color)
        else:
            _plot_images(axis, human, points)
        axis.set_title(f"generation {generation}", fontsize=9, color=TICK_COLOR)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(colors=TICK_COLOR, labelsize=7, length=0)


def _plot_density(axis: "Axes", human: Points, points: Points, color: str) -> None:
    low, high = np.quantile(human, (0.001, 0.999))
    edges = np.linspace(low - (high - low) / 5, high + (high - low) / 5, 41).tolist()
    axis.hist(human[:, 0], edges, density=True, color=_HUMAN_COLOR)
    axis.hist(points[:, 0], edges, density=True, histtype="step", color=color, linewidth=1.4)
    axis.set_yticks([])


def _plot_scatter(axis: "Axes", human: Points, points: Points, color: str) -> None:
    axis.scatter(human[:, 0], human[:, 1], s=2, color=_HUMAN_COLOR, linewidths=0)
    axis.scatter(points[:, 0], points[:, 1], s=2, color=color, linewidths=0, alpha=0.6)
    center, reach = human.mean(0), 4 * human.std(0)
    axis.set_xlim(center[0] - reach[0], center[0] + reach[0])
    axis.set_ylim(center[1] - reach[1], center[1] + reach[1])


def _plot_images(axis: "Axes", human: Points, points: Points) -> None:
    """Tile the first images, with a blank line between them."""
    side = _image_side(human)
    tile = side + 1
    tiles = np.full((_IMAGES_PER_SIDE**2, tile, tile), np.nan)
    tiles[: len(points), :side, :side] = points[: _IMAGES_PER_SIDE**2].reshape(-1, side, side)
    grid = tiles.reshape(_IMAGES_PER_SIDE, _IMAGES_PER_SIDE, tile, tile).swapaxes(1, 2)
    mosaic = grid.reshape(_IMAGES_PER_SIDE * tile, _IMAGES_PER_SIDE * tile)
    axis.imshow(mosaic, cmap="gray_r", vmin=human.min(), vmax=human.max())
    axis.set_xticks([])
    axis.set_yticks([])


def _image_side(points: Points) -> int:
    """Return the side of square images in pixels, or 0 if the points are not images."""
    side = isqrt(points.shape[1])
    return side if side >= _MIN_IMAGE_SIDE and side**2 == points.shape[1] else 0
