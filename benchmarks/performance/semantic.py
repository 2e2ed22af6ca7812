"""Measure embeddings per core-second, semantic duplicates against semhash, and selection against submodlib and apricot.

CPU seconds of whole processes, alternating, the best of the rounds. Finished measurements are kept under
`benchmarks/work`; delete them to repeat. `python -m benchmarks.performance.semantic` runs a small size as a check and
writes no result.
"""

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import WORK, Figure, remembered, short
from benchmarks.performance.dedup import is_the_stated_core
from benchmarks.performance.races import child, peer, raced, timed
from benchmarks.performance.semantic_peers import KEPT, SEMANTIC_THRESHOLD
from curation.dedup.semantic import SemanticSettings, find_semantic_duplicates
from curation.embeddings.base import Vectors
from curation.embeddings.encoders import HashingEncoder, has_fast_bf16
from curation.metrics.embedding import vendi_score
from curation.selection.diversity import DiversitySettings, select_diverse
from storage.readers.python_docs import iter_docstrings

_WORK = WORK / "semantic"
_DEFAULT = "default"
_BLOCK = 4096
_PATHS = (_DEFAULT, "torch-float32", "torch-bfloat16", "openvino-float32", "openvino-bfloat16")


def measure(*, small: bool = False) -> list[Figure]:
    """Every figure; the small size takes a minute or two."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _WORK.mkdir(parents=True, exist_ok=True)
    passages = [text for text, _ in iter_docstrings()]
    # Records as short as instructions: the last words of passages, a fifth of them with a word exchanged.
    short_texts = _short_records(passages, 4000 if small else 130_000)
    rounds = 1 if small else 2
    chosen = _vectors(short_texts)[:: 2 if small else 6][: 2000 if small else 20_000]
    pieces: dict[str, Callable[[], list[Figure]]] = {
        "embedding": lambda: _embedding([text for text in passages if len(text) > 400][: 64 if small else 400], rounds),
        "duplicates": lambda: _duplicates(_vectors(short_texts), rounds),
        "choice": lambda: _choice(chosen, rounds),
        "apricot": lambda: _apricot(chosen[::4]),
    }
    noted = _WORK / ("small" if small else "whole")
    return [figure for name, piece in pieces.items() for figure in remembered(noted, name, piece)]


def _embedding(texts: Sequence[str], rounds: int) -> list[Figure]:
    given = _WORK / "texts.json"
    given.write_text(json.dumps(texts))
    python = sys.executable if importlib.util.find_spec("openvino") else peer("openvino", beside=True)
    pythons = {path: python if path.startswith("openvino") else sys.executable for path in _PATHS}
    best = raced({f"embed:{path}": child(f"embed:{path}", at, given) for path, at in pythons.items()}, rounds)
    slowest, truth = best[f"embed:{_DEFAULT}"]
    nearest = _nearest(truth)
    figures = []
    for path in _PATHS:
        seconds, vectors = best[f"embed:{path}"]
        name = "sentence-transformers defaults" if path == _DEFAULT else path.replace("-", ", ")
        figures.append(
            Figure(f"embedding, {name}", short(len(texts) / seconds) if seconds else None, "texts a core-second")
        )
        if seconds and path != _DEFAULT:
            kept = float((_nearest(vectors) == nearest).mean())
            figures += [
                Figure(f"embedding, {name}: speedup over defaults", short(slowest / seconds), "ratio"),
                Figure(f"embedding, {name}: nearest neighbors retained", short(kept), "share", ">= 0.98", kept >= 0.98),
            ]
    ratio = max(
        slowest / seconds
        for seconds, vectors in (best[f"embed:{path}"] for path in _PATHS[1:])
        if seconds and (_nearest(vectors) == nearest).mean() >= 0.98
    )
    goal = 3.0 if has_fast_bf16() else 2.2
    words = ">= 3 where cores multiply BF16 faster, 2.2 elsewhere"
    return [
        *figures,
        Figure(
            "embedding: speedup of the fastest over sentence-transformers defaults",
            short(ratio),
            "ratio",
            words,
            ratio >= goal,
        ),
    ]


def _duplicates(vectors: Vectors, rounds: int) -> list[Figure]:
    given = _WORK / "short.npy"
    np.save(given, vectors)
    rows = len(vectors)

    def find(brute_force_below: int) -> Callable[[], tuple[float, NDArray[Any]]]:
        settings = SemanticSettings(threshold=SEMANTIC_THRESHOLD, brute_force_below=brute_force_below)
        return timed(lambda: np.flatnonzero(find_semantic_duplicates(vectors, vectors[:0], settings).kept))

    paths = {"exact": find(rows), "clusters": find(0), "semhash": child("semhash", peer("semhash"), given)}
    best = raced(paths, rounds)
    truth = np.isin(np.arange(rows), best["exact"][1])
    figures = [Figure(f"semantic duplicates of {rows} short records: dropped", int((~truth).sum()), "records")]
    for name, (seconds, kept) in best.items():
        figures.append(Figure(f"semantic duplicates: {name}", short(seconds) if seconds else None, "CPU s"))
        if seconds and name != "exact":
            same = np.isin(np.arange(rows), kept) == truth
            found = float(same[~truth].mean()) if (~truth).any() else 1.0
            goal = (">= 0.98", found >= 0.98) if name == "clusters" else ("", None)
            figures += [
                Figure(f"semantic duplicates: {name}, same decision as exact", short(float(same.mean())), "share"),
                Figure(f"semantic duplicates: {name}, found", short(found), "share", *goal),
            ]
    return figures


def _choice(vectors: Vectors, rounds: int) -> list[Figure]:
    given, rows = _WORK / "choice.npy", len(vectors)
    np.save(given, vectors)

    def choose(method: str, block_size: int) -> Callable[[], tuple[float, NDArray[Any]]]:
        values = {"method": method, "keep_fraction": KEPT, "strata": "none", "block_size": block_size}
        settings = DiversitySettings.model_validate(values)
        return timed(lambda: np.flatnonzero(~np.isnan(select_diverse(vectors, settings))))

    best = raced(
        {
            "facility-location": choose("facility-location", rows),
            "facility-location in blocks of 4096": choose("facility-location", 4096),
            "k-center": choose("k-center", rows),
            "dpp": choose("dpp", rows),
        },
        rounds,
    )
    # Once: it takes longer than all the others together.
    best |= raced({"submodlib": child("submodlib", peer("submodlib"), given)}, 1)
    limits = {"facility-location": 10.0, "k-center": 2.0}
    figures = []
    for name, (seconds, chosen) in best.items():
        title, limit = f"{round(KEPT * rows)} of {rows}: {name}", limits.get(name)
        goal = _limit(seconds, limit) if limit else ("", None)
        figures.append(Figure(title, short(seconds) if seconds else None, "CPU s", *goal))
        if seconds:
            seen = representation_similarity(vectors, chosen)
            figures += [
                Figure(f"{title}, sum covered", short(seen.facility_location), "cosines"),
                Figure(f"{title}, farthest row", short(seen.minimum), "cosine"),
                Figure(f"{title}, Vendi score", short(vendi_score(vectors[chosen])), "vectors"),
            ]
    figures.append(_against("submodlib", vectors, best))
    seconds, _ = timed(lambda: np.array(vendi_score(vectors)))()
    return [*figures, Figure(f"Vendi score of {rows}", short(seconds), "CPU s", *_limit(seconds, 0.2))]


def _limit(seconds: float, limit: float) -> tuple[str, bool | None]:
    """A goal of time, which is for one kind of core; a slower one that keeps it keeps it."""
    return (
        f"<= {limit:g} on Zen 5 with AVX-512 BF16",
        True if seconds <= limit else False if is_the_stated_core() else None,
    )


def _apricot(vectors: Vectors) -> list[Figure]:
    """Beside ours on a quarter of the rows: on all of them it takes a quarter of an hour."""
    given, rows = _WORK / "quarter.npy", len(vectors)
    np.save(given, vectors)
    settings = DiversitySettings(method="facility-location", keep_fraction=KEPT, strata="none", block_size=rows)
    ours = timed(lambda: np.flatnonzero(~np.isnan(select_diverse(vectors, settings))))
    best = raced({"facility-location": ours, "apricot": child("apricot", peer("apricot"), given)}, 1)
    costs = [
        Figure(f"{round(KEPT * rows)} of {rows}: {name}", short(seconds) if seconds else None, "CPU s")
        for name, (seconds, _) in best.items()
    ]
    return [*costs, _against("apricot", vectors, best)]


@dataclass(frozen=True)
class RepresentationSimilarity:
    """Cosine similarity of every row to the nearest selected one."""

    mean: float
    minimum: float
    facility_location: float
    """Sum of the positive ones, which facility location maximizes."""


def representation_similarity(vectors: Vectors, selected: NDArray[np.int64]) -> RepresentationSimilarity:
    """Return the similarity of each row to its nearest selected row, of which there is at least one."""
    starts = range(0, len(vectors), _BLOCK)
    nearest = np.concatenate(
        [(vectors[start : start + _BLOCK] @ vectors[selected].T).max(1).astype(np.float64) for start in starts]
    )
    return RepresentationSimilarity(float(nearest.mean()), float(nearest.min()), float(np.maximum(nearest, 0).sum()))


def _against(name: str, vectors: Vectors, best: dict[str, tuple[float, NDArray[Any]]]) -> Figure:
    seconds, chosen = best[name]
    ours = representation_similarity(vectors, best["facility-location"][1]).facility_location
    ratio = ours / representation_similarity(vectors, chosen).facility_location if seconds else None
    value, holds = (None, None) if ratio is None else (round(ratio, 6), ratio >= 0.9999)
    return Figure(f"facility location: sum covered, against {name}", value, "ratio", ">= 1 but for rounding", holds)


def _short_records(passages: Sequence[str], records: int) -> list[str]:
    rng = np.random.default_rng(0)
    words = [found for text in passages if len(found := re.findall(r"\S+", text)) >= 12]
    texts: list[str] = []
    while len(texts) < records:
        if texts and rng.random() < 0.2:
            some = texts[int(rng.integers(len(texts)))].split()
            some[int(rng.integers(len(some)))] = "other"
        else:
            source = words[int(rng.integers(len(words)))]
            start = int(rng.integers(len(source) - 11))
            some = source[start : start + int(rng.integers(8, 20))]
        texts.append(" ".join(some))
    return texts


def _vectors(texts: Sequence[str]) -> Vectors:
    cached = _WORK / f"hashed-{len(texts)}.npy"
    if not cached.exists():
        np.save(cached, HashingEncoder().encode(texts))
    found: Vectors = np.load(cached)
    return found


def _nearest(vectors: NDArray[Any]) -> NDArray[np.int64]:
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -2)
    return similar.argmax(1)


if __name__ == "__main__":
    for figure in measure(small=True):
        print(f"{figure.name:<70} {figure.value} {figure.unit}  {figure.goal}  {figure.holds}")
