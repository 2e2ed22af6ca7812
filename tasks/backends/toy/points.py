"""Points, which travel as texts of numbers with a space between: `0.412 -1.305`.

The probability of a text is that of all points that are written alike: density times the size of the last decimal, in
each direction. So it is of one kind with that of words, and a point written with more decimals is the more surprising.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heirloom.errors import HeirloomError
from tasks.backends.types import Completion, Progress, Prompt, Text, TrainingCorpus

Points = NDArray[np.float64]

BATCH = 256
"""Points at a time."""


def points_of(texts: Sequence[Text]) -> Points:
    """The points that some texts say, shape (texts, dimensions); (0, 0) for none.

    Raises:
        HeirloomError: a text is no point, or has more or fewer numbers than the first.
    """
    found: list[list[float]] = []
    for text in texts:
        whole = text if isinstance(text, str) else "".join(text)
        try:
            found.append([float(number) for number in whole.split()])
        except ValueError:
            found.append([])
        if not found[-1] or len(found[-1]) != len(found[0]) or not np.isfinite(found[-1]).all():
            wanted = f"{len(found[0])} numbers" if found[0] else "numbers with spaces between, as 0.412 -1.305"
            raise HeirloomError(f"a backend of points reads {wanted}, and found {whole[:60]!r}")
    return np.array(found).reshape(len(found), len(found[0]) if found else 0)


def training_points(corpus: TrainingCorpus) -> tuple[Points, int]:
    """Every point of a corpus, human ones first, and how many of them are human.

    Raises:
        HeirloomError: there is none, or a text is no point.
    """
    if not corpus.human and not corpus.synthetic:
        raise HeirloomError("The corpus is empty. Training needs at least one text.")
    return points_of([*corpus.human, *corpus.synthetic]), len(corpus.human)


def infer_decimals(texts: Sequence[Text]) -> int:
    """The most decimals that any of the numbers has."""
    written = " ".join(text if isinstance(text, str) else "".join(text) for text in texts)
    return max((len(number.partition(".")[2]) for number in written.split()), default=0)


def format_points(points: Points, decimals: int) -> list[str]:
    """The texts that say these points, shape (points, dimensions)."""
    # A nought has no sign: two spellings of one point would be two texts.
    rounded = np.round(points, decimals) + 0.0
    return [" ".join(f"{number:.{decimals}f}" for number in point) for point in rounded.tolist()]


def nll_from_density(densities: Points, dimensions: int, decimals: int) -> Points:
    """Nats of texts whose points have these log densities; of any shape."""
    return -densities + dimensions * decimals * np.log(10)


def to_completions(
    prompts: Sequence[Prompt],
    drawn: Callable[[Sequence[Prompt]], Points],
    nats: Callable[[Points], Points],
    decimals: int,
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Answers to prompts, a batch at a time: points as they are `drawn`, and the surprise of what is written of them."""
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        texts = format_points(drawn(batch), decimals)
        yield _said(texts, batch, nats(points_of(texts)))
        progress(start + len(batch), len(prompts))


def _said(texts: Sequence[str], prompts: Sequence[Prompt], nats: Points) -> list[Completion]:
    """Answers to prompts; a point does not follow from what was said before, and stands behind it."""
    return [
        Completion(f" {text}" if prompt.text else text, "stop", 0, len(text.split()), -float(cost))
        for text, prompt, cost in zip(texts, prompts, nats, strict=True)
    ]


def require_model(model: Path, name: str) -> Path:
    """The file that a model lies in.

    Raises:
        HeirloomError: it is not there.
    """
    if not (model / name).is_file():
        raise HeirloomError(f"{model} is no model of points: expected {name} in it")
    return model / name
