"""Compare an attribute grid with one unconditional prompt, on an n-gram model."""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.figures import Figure, short
from benchmarks.reproductions.sampling import STORE, honest, lived, worth
from benchmarks.support.template_model_server import GRID, delivered
from curation.embeddings.encoders import load_encoder
from curation.metrics.embedding import vendi_score
from flows.config.site import Site
from storage.artifacts.artifact import read_table

_ASKED = {
    "prompts": {
        "template_name": "template",
        "template": "{subject} {format} {length} :",
        "attributes": GRID,
        "output_format": "prompt_and_completion",
    },
    "mix": {"stratify_by": "attributes"},
}
_CELLS = math.prod(map(len, GRID.values()))


def grid(*, seeds: Sequence[int] = (0, 1, 2), records: int = 400, cell: int = 5) -> Iterator[Figure]:
    """Yu et al. 2023, arXiv:2306.15895.

    A grid of attributes against one prompt that asks for nothing, of the same model.
    """
    weights = {name: [1 / (1 + place) ** 1.5 for place in range(len(values))] for name, values in GRID.items()}
    honest("uneven", records, weights)
    wrong, effective, vendi, right = [], [], [], []
    for seed in seeds:
        asked, one = (_uneven(name, seed, more, records, cell) for name, more in (("grid", _ASKED), ("one", {})))
        wrong.append(_unlike([row["attributes"] for row in asked if row["kept"]], cell))
        wrong[-1] += _unlike([row["attributes"] for row in asked], len(asked) // _CELLS)
        right.append(statistics.mean(worth([row["prompt"] for row in asked], [row["text"] for row in asked])))
        both = [[row["text"] for row in rows if row["kept"]] for rows in (asked, one)]
        effective.append([_effective_kinds(texts) for texts in both])
        vendi.append([vendi_score(load_encoder("hashing").encode(texts)) for texts in both])
    label = f"of {2 * _CELLS} quotas of a grid, prompts and records of the corpus: not exact, maximum over seeds"
    yield Figure(label, max(wrong), "cells", "0: delivered counts equal quotas", max(wrong) == 0)
    yield Figure("texts about the requested subject, minimum over seeds", short(min(right)), "share")
    for name, found in (("kinds of text, effective number", effective), ("Vendi score of embeddings", vendi)):
        least = min(with_grid / without for with_grid, without in found)
        label = f"{name}: grid / one prompt, minimum over seeds"
        yield Figure(label, short(least), "ratio", "> 1: more diverse", least > 1)


def _uneven(name: str, seed: int, more: Mapping[str, Any], records: int, cell: int) -> list[dict[str, Any]]:
    """Candidates of a generation that has two for each record of its corpus, and whether they are in it."""
    run = f"attributes-{name}-{seed}"
    asked = {**more.get("prompts", {}), "prompts_per_human_record": 2 * _CELLS * cell / records}
    mix = {"policy": "fixed-fraction", "human_fraction": 0.0, "num_records": _CELLS * cell, **more.get("mix", {})}
    label = {"dataset": "uneven", "train": {"backend": "ngram", "order": 5}, "generate": {"max_tokens": 60}}
    lived(run, seed, {**label, "prompts": asked, "mix": mix}, Site(store=STORE))
    folder = STORE / "runs" / run / "generation=1" / "attempt=1"
    taken = set(read_table(folder / "corpus", ["id"])["id"].to_pylist())
    rows = read_table(folder / "candidates", ["id", "text", "prompt", "attributes"]).to_pylist()
    return [{**row, "kept": row["id"] in taken} for row in rows]


def _unlike(attributes: Sequence[object], quota: int) -> int:
    """Cells that were not served `quota` times; or once more, where the total leaves a rest."""
    times = Counter(map(str, attributes))
    rest = len(attributes) % _CELLS
    exact = [quota + 1] * rest + [quota] * (_CELLS - rest)
    return sum(one != other for one, other in zip(sorted(times.values(), reverse=True), exact, strict=False)) + (
        _CELLS - len(times)
    )


def _effective_kinds(texts: Sequence[str]) -> float:
    """How many kinds of text there are, were all of them alike frequent.

    The exponential of the entropy of what they truly are.
    """
    kinds = Counter(tuple(sorted(delivered(text).items())) for text in texts)
    return math.exp(-sum(times / len(texts) * math.log(times / len(texts)) for times in kinds.values()))


if __name__ == "__main__":
    for figure in grid():
        print(figure.name, figure.value, figure.unit, "|", figure.goal, figure.holds, flush=True)
