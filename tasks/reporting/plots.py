"""Plots of metrics by generation, one color a run; the colors are the same in all plots."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLORS = ("#c2410c", "#1d4ed8", "#047857", "#7c3aed", "#b45309", "#0e7490", "#be185d", "#4d7c0f")
TEXT_COLOR, MUTED_COLOR, TICK_COLOR, GRID_COLOR = "#1f2933", "#616e7c", "#52606d", "#e4e7eb"

_COLOR_MAP = "viridis"
_NUM_BINS = 40


class MetricPoint(NamedTuple):
    """A metric of one generation."""

    run: str
    generation: int
    metric: str
    value: float


class TextPerplexity(NamedTuple):
    """Perplexity of one text under the generation-0 model; generation 0 is held-out human text."""

    run: str
    generation: int
    perplexity: float


class _Panel(NamedTuple):
    metric: str
    title: str
    note: str = ""
    is_logarithmic: bool = False


_CURVE_PANELS = (
    _Panel(
        "perplexity", "Held-out perplexity", "lower is better; dashed: at the best temperature", is_logarithmic=True
    ),
    _Panel("rare_word_coverage", "Rare-word coverage", "share of the human text's rare words; higher is better"),
    _Panel("vocabulary_size", "Vocabulary size", "distinct words in a sample of fixed size", is_logarithmic=True),
    _Panel("repetition", "Repetition", "share of 4-grams that occurred before; lower is better"),
)
_FORECAST_PANELS = (
    _Panel("type_coverage", "Vocabulary coverage"),
    _Panel("rare_word_coverage", "Rare-word coverage"),
    _Panel("entropy", "Entropy of words in nats"),
)


def plot_curves(points: Sequence[MetricPoint], path: Path) -> None:
    """Plot perplexity, rare-word coverage, vocabulary size and repetition by generation.

    A run with one generation is drawn as a horizontal line beside longer ones.

    Args:
        points: Metrics of the runs; runs get their colors in order of appearance.
        path: PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    colors = _colors_by_run([point.run for point in points])
    values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for point in points:
        values[point.metric][point.run][point.generation] = point.value
    last = max(point.generation for point in points)
    figure, axes = plt.subplots(2, 2, figsize=(11, 7.2), dpi=130, constrained_layout=True)
    for axis, panel in zip(axes.flat, _CURVE_PANELS, strict=True):
        for run, color in colors.items():
            _plot_line(axis, values[panel.metric][run], last, _Line(color, "-", run))
            if panel.metric == "perplexity":
                at_best_temperature = values["perplexity_at_best_temperature"][run]
                _plot_line(axis, at_best_temperature, last, _Line(color, "--", ""))
        axis.text(0, 1.0, panel.note, transform=axis.transAxes, fontsize=8.5, color=MUTED_COLOR, va="bottom")
        axis.set_title(panel.title, loc="left", fontsize=12, fontweight="bold", color=TEXT_COLOR, pad=18)
        if panel.is_logarithmic:
            axis.set_yscale("log")
            _use_plain_numbers(axis.yaxis)
        axis.set_xticks(range(last + 1))
        axis.set_axisbelow(True)
        _style_axis(axis)
    for axis in axes[1]:
        axis.set_xlabel("generation", color=TICK_COLOR, fontsize=9)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=10)
    figure.savefig(path)
    plt.close(figure)


def plot_forecast(forecast: Sequence[MetricPoint], measured: Sequence[MetricPoint], path: Path) -> None:
    """Plot forecast values dashed and measured values solid, by generation.

    Args:
        forecast: Forecast metrics of the runs; runs get their colors in order of appearance.
        measured: Measured metrics of the same runs; may be empty.
        path: PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    colors = _colors_by_run([point.run for point in forecast])
    last = max(point.generation for point in forecast)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), dpi=130, constrained_layout=True)
    for axis, panel in zip(axes, _FORECAST_PANELS, strict=True):
        for points, style, kind in ((forecast, "--", "forecast"), (measured, "-", "measured")):
            for run, color in colors.items():
                values = {
                    point.generation: point.value
                    for point in points
                    if point.run == run and point.metric == panel.metric
                }
                if values:
                    _plot_line(axis, values, last, _Line(color, style, f"{run}, {kind}"))
        axis.set_title(panel.title, loc="left", fontsize=11, fontweight="bold", color=TEXT_COLOR)
        axis.set_xticks(range(last + 1))
        axis.set_ylim(bottom=0)
        _style_axis(axis)
        axis.set_xlabel("generation", color=TICK_COLOR, fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(path)
    plt.close(figure)


def plot_perplexity_histogram(texts: Sequence[TextPerplexity], path: Path) -> None:
    """Plot one panel a run with a histogram of each generation, earlier ones darker, and held-out human text dashed.

    The plot of Shumailov et al. (2024). All panels share their bins, which are equally wide in the logarithm.

    Args:
        texts: Perplexities of the texts of all runs.
        path: PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt
    from matplotlib.colors import to_rgba

    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for text in texts:
        values[text.run][text.generation].append(text.perplexity)
    perplexities = np.array([text.perplexity for text in texts])
    low, high = max(1.0, float(perplexities.min())), float(np.quantile(perplexities, 0.999))
    edges = np.geomspace(low, high * 1.01 + 1e-9, _NUM_BINS + 1)
    last = max(text.generation for text in texts)
    figure, axes = plt.subplots(
        1,
        len(values),
        figsize=(4.2 * len(values) + 1.5, 3.8),
        dpi=130,
        sharey=True,
        squeeze=False,
        constrained_layout=True,
    )
    color_map = mpl.colormaps[_COLOR_MAP]
    for axis, (run, by_generation) in zip(axes[0], values.items(), strict=True):
        for generation, generation_values in sorted(by_generation.items()):
            clipped = np.clip(generation_values, edges[0], edges[-1])
            shares = np.histogram(clipped, edges)[0] / len(generation_values)
            color, label, style = to_rgba(MUTED_COLOR), "human, held out", "--"
            if generation:
                color = color_map(0.9 * (generation - 1) / max(1, last - 1))
                label, style = f"generation {generation}", "-"
            # One legend for all panels: that of the first.
            panel_label = label if axis is axes[0, 0] else None
            axis.stairs(shares, edges, color=color, label=panel_label, linestyle=style, linewidth=1.6)
        axis.set_xscale("log")
        _use_plain_numbers(axis.xaxis)
        axis.set_title(run, loc="left", fontsize=11, fontweight="bold", color=TEXT_COLOR)
        axis.set_xlabel("perplexity of a text under the generation-0 model", color=TICK_COLOR, fontsize=9)
        _style_axis(axis)
    axes[0, 0].set_ylabel("share of texts", color=TICK_COLOR, fontsize=9)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    figure.savefig(path)
    plt.close(figure)


def _colors_by_run(runs: Sequence[str]) -> dict[str, str]:
    distinct = dict.fromkeys(runs)
    return {run: COLORS[position % len(COLORS)] for position, run in enumerate(distinct)}


def _style_axis(axis: "Axes") -> None:
    axis.grid(axis="y", color=GRID_COLOR, linewidth=0.8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(colors=TICK_COLOR, labelsize=9, length=0)


def _use_plain_numbers(axis: "Axis") -> None:
    """Label a logarithmic axis with 10, 20, 50 instead of powers."""
    from matplotlib import ticker

    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_minor_locator(ticker.NullLocator())


class _Line(NamedTuple):
    color: str
    style: str
    label: str
    """Empty: not in the legend."""


def _plot_line(axis: "Axes", value_by_generation: dict[int, float], last: int, line: _Line) -> None:
    """Draw the line of a run; a single value is a horizontal line, if other runs are longer."""
    is_solid = line.style == "-"
    if len(value_by_generation) == 1 and last:
        (value,) = value_by_generation.values()
        axis.axhline(
            value,
            color=line.color,
            linestyle=":" if is_solid else line.style,
            linewidth=1.4,
            label=line.label or None,
            alpha=1 if is_solid else 0.4,
        )
        return
    generations = sorted(value_by_generation)
    axis.plot(
        generations,
        [value_by_generation[generation] for generation in generations],
        line.style,
        color=line.color,
        marker="o" if is_solid else None,
        markersize=4,
        linewidth=2 if is_solid else 1.2,
        label=line.label or None,
    )
