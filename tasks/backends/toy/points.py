"""Points as texts of numbers separated by spaces, for example `0.412 -1.305`.

The probability of a text is that of all points that round to it: the density times the cell of the last decimal. So
likelihoods are discrete as those of words, and a point with more decimals is less likely.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heirloom.errors import HeirloomError
from tasks.backends.types import Completion, Progress, Prompt, Text, TrainingCorpus, plain_text

Points = NDArray[np.float64]

BATCH = 256
"""Points in one batch."""


def points_of(texts: Sequence[Text]) -> Points:
    """Parse texts into an array of shape (texts, dimensions); (0, 0) without texts.

    Raises:
        HeirloomError: a text is not a point, or has another number of dimensions than the first.
    """
    points: list[list[float]] = []
    for text in texts:
        content = plain_text(text)
        try:
            points.append([float(number) for number in content.split()])
        except ValueError:
            points.append([])
        if not points[-1] or len(points[-1]) != len(points[0]) or not np.isfinite(points[-1]).all():
            expected = f"{len(points[0])} numbers" if points[0] else "numbers separated by spaces, as 0.412 -1.305"
            raise HeirloomError(f"The backend expects texts of {expected}, but found {content[:60]!r}")
    return np.array(points).reshape(len(points), len(points[0]) if points else 0)


def training_points(corpus: TrainingCorpus) -> tuple[Points, int]:
    """Return all points of a corpus, human ones first, and the number of human ones.

    Raises:
        HeirloomError: the corpus is empty, or a text is not a point.
    """
    if not corpus.human and not corpus.synthetic:
        raise HeirloomError("The corpus is empty. Training needs at least one text.")
    return points_of([*corpus.human, *corpus.synthetic]), len(corpus.human)


def infer_decimals(texts: Sequence[Text]) -> int:
    """Return the maximum number of decimals in the texts."""
    written = " ".join(map(plain_text, texts))
    return max((len(number.partition(".")[2]) for number in written.split()), default=0)


def format_points(points: Points, decimals: int) -> list[str]:
    """Format points of shape (points, dimensions) as texts."""
    # Adding 0.0 turns -0.0 into 0.0: one point must have one text.
    rounded = np.round(points, decimals) + 0.0
    return [" ".join(f"{number:.{decimals}f}" for number in point) for point in rounded.tolist()]


def nll_from_density(densities: Points, dimensions: int, decimals: int) -> Points:
    """Convert log densities, of any shape, to negative log-likelihoods of the texts, in nats."""
    return -densities + dimensions * decimals * np.log(10)


def to_completions(
    prompts: Sequence[Prompt],
    drawn: Callable[[Sequence[Prompt]], Points],
    nats: Callable[[Points], Points],
    decimals: int,
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Yield completions in batches: points from `drawn` as texts, with the likelihood of the rounded points."""
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        texts = format_points(drawn(batch), decimals)
        yield _build_completions(texts, batch, nats(points_of(texts)))
        progress(start + len(batch), len(prompts))


def _build_completions(texts: Sequence[str], prompts: Sequence[Prompt], nats: Points) -> list[Completion]:
    """Build the completions. A point does not depend on its prompt, and is separated from it by a space."""
    return [
        Completion(f" {text}" if prompt.text else text, "stop", 0, len(text.split()), -float(cost))
        for text, prompt, cost in zip(texts, prompts, nats, strict=True)
    ]


def require_model(model: Path, name: str) -> Path:
    """Return the model file of a folder.

    Raises:
        HeirloomError: the file does not exist.
    """
    if not (model / name).is_file():
        raise HeirloomError(f"{model} is not a model of points. Expected {name} in it.")
    return model / name
