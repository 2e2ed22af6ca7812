"""What each generation says, drawn: a density of numbers, a cloud of pairs, or pictures, beside what people gave."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.reporting.plots import COLORS

if TYPE_CHECKING:
    import duckdb
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

Points = NDArray[np.float64]
_COLUMNS = 6
"""Most generations that are drawn, the first and the last among them."""
_LEAST_SIDE = 4
"""Pixels a side from which a square number of numbers is a picture."""
_TILES = 5
"""Pictures a side of a grid."""
_SHOWN = 1000


def plot_points_by_generation(catalog: "duckdb.DuckDBPyConnection", path: Path) -> bool:
    """Draw what the runs of a catalog say that speak points, if there are any; those on the human text of the first."""
    told = catalog.sql(_TOLD).fetchall()
    if not told:
        return False
    people = catalog.execute(_PEOPLE, [told[0][0]]).fetchall()
    human = parse_points([text for (text,) in people])
    texts: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name, run, generation, text in told:
        if name == told[0][0]:
            texts[run, generation].append(text)
    found = {key: parse_points(some) for key, some in texts.items()}
    said = {
        key: points
        for key, points in found.items()
        if human is not None and points is not None and points.shape[1] == human.shape[1]
    }
    if human is not None and said:
        plot_points(human, said, path)
    return bool(said)


_TOLD = """select dataset, run, generation, text from eval_samples join runs using (run)
    where backend in ('gaussian-mixture', 'vae') and prompt = '' order by run, generation"""
_PEOPLE = "select text from human_train where dataset = ? order by id limit 1000"


def parse_points(texts: Sequence[str]) -> Points | None:
    """Points, shape (texts, numbers), if every text is one of as many numbers that can be drawn; else None."""
    try:
        points = np.array([[float(number) for number in text.split()] for text in texts[:_SHOWN]])
    except ValueError:
        return None
    if points.ndim != 2 or not np.isfinite(points).all():
        return None
    return points if points.shape[1] in (1, 2) or _side(points) else None


def plot_points(human: Points, said: Mapping[tuple[str, int], Points], path: Path) -> None:
    """A row a run, a column a generation; `said` by run and generation, all of as many numbers as `human`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    runs = list(dict.fromkeys(run for run, _ in said))
    columns = max(len(_chosen(said, run)) for run in runs)
    figure = plt.figure(figsize=(2.2 * columns + 0.4, 2.5 * len(runs)), dpi=130, layout="constrained")
    for run, row, colour in zip(runs, np.atleast_1d(figure.subfigures(len(runs), 1)), COLORS * len(runs), strict=False):
        row.suptitle(run, x=0.01, ha="left", fontsize=11, fontweight="bold", color="#1f2933")
        _draw_row(row, human, {one: said[run, one] for one in _chosen(said, run)}, columns, colour)
    figure.savefig(path)
    plt.close(figure)


def _chosen(said: Mapping[tuple[str, int], Points], run: str) -> list[int]:
    there = sorted(generation for name, generation in said if name == run)
    places = np.linspace(0, len(there) - 1, min(_COLUMNS, len(there)))
    return [there[round(place)] for place in places]


def _draw_row(row: "SubFigure", human: Points, said: Mapping[int, Points], columns: int, colour: str) -> None:
    draw = {1: _density, 2: _cloud}.get(human.shape[1], _grid)
    axes = row.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]
    for axis in axes[len(said) :]:
        axis.set_visible(False)
    for axis, (generation, points) in zip(axes, said.items(), strict=False):
        draw(axis, human, points, colour)
        axis.set_title(f"generation {generation}", fontsize=9, color="#52606d")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(colors="#52606d", labelsize=7, length=0)


def _density(axis: "Axes", human: Points, points: Points, colour: str) -> None:
    low, high = np.quantile(human, (0.001, 0.999))
    edges = np.linspace(low - (high - low) / 5, high + (high - low) / 5, 41).tolist()
    axis.hist(human[:, 0], edges, density=True, color="#cbd2d9")
    axis.hist(points[:, 0], edges, density=True, histtype="step", color=colour, linewidth=1.4)
    axis.set_yticks([])


def _cloud(axis: "Axes", human: Points, points: Points, colour: str) -> None:
    axis.scatter(human[:, 0], human[:, 1], s=2, color="#cbd2d9", linewidths=0)
    axis.scatter(points[:, 0], points[:, 1], s=2, color=colour, linewidths=0, alpha=0.6)
    middle, reach = human.mean(0), 4 * human.std(0)
    axis.set_xlim(middle[0] - reach[0], middle[0] + reach[0])
    axis.set_ylim(middle[1] - reach[1], middle[1] + reach[1])


def _grid(axis: "Axes", human: Points, points: Points, _: str) -> None:
    side = _side(human)
    framed = side + 1
    tiles = np.full((_TILES**2, framed, framed), np.nan)
    tiles[: len(points), :side, :side] = points[: _TILES**2].reshape(-1, side, side)
    whole = tiles.reshape(_TILES, _TILES, framed, framed).swapaxes(1, 2).reshape(_TILES * framed, _TILES * framed)
    axis.imshow(whole, cmap="gray_r", vmin=human.min(), vmax=human.max())
    axis.set_xticks([])
    axis.set_yticks([])


def _side(points: Points) -> int:
    """Pixels a side of what may be a picture; 0 if it is none."""
    side = isqrt(points.shape[1])
    return side if side >= _LEAST_SIDE and side**2 == points.shape[1] else 0
