"""Corpora with known near-duplicates, and the exact truth about them; seeded, and kept in the work folder.

Documents of 50 to 300 words are put together from the sentences of Python's docstrings. Three in ten are edited copies
of an earlier one, in clusters of one to 65, with 0 to 30 % of the words substituted, inserted or left out.
"""

import random
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_array

from benchmarks.figures import WORK
from curation.dedup.minhash import SIGNATURE_FORMAT
from curation.text import shingles
from storage.readers.python_docs import iter_docstrings

FOLDER = WORK / "dedup"
RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
"""Shares of the words of a copy that are edited."""
SHINGLE, THRESHOLD = 5, 0.7
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def resampled(count: int, seed: int = 7) -> Path:
    """Parquet file of `count` documents in the column `text`."""
    return _kept(f"resampled-{count}", lambda: _documents(count, seed))


def with_templates(count: int, words: int, seed: int = 7) -> Path:
    """The same documents, each behind one of three texts of so many words."""

    def made() -> Iterator[str]:
        rng = random.Random(seed)  # noqa: S311
        templates = [" ".join(_words(rng, words)) for _ in range(3)]
        for text in _documents(count, seed):
            yield f"{rng.choice(templates)} {text}"

    return _kept(f"templates-{words}-{count}", made)


def mostly_template(count: int, share: float, seed: int = 7) -> Path:
    """Distinct documents of 200 words, this share of which is one and the same text.

    The others are drawn one by one.
    """

    def made() -> Iterator[str]:
        rng = random.Random(seed)  # noqa: S311
        shared = round(200 * share)
        template = " ".join(_words(rng, shared)[:shared])
        for _ in range(count):
            yield f"{template} {' '.join(rng.choices(_vocabulary(), k=200 - shared))}"

    return _kept(f"shared-{round(100 * share)}-{count}", made)


def joined(count: int, seed: int) -> pa.ChunkedArray:
    """Generate `count` documents of 178 words on average, a million in seconds.

    New sentences, or those of another document.

    Three in ten repeat an earlier one but for one to four sentences.
    """
    rng = np.random.default_rng(seed)
    pool = pa.array([" ".join(found) for found in _sentences()])
    sizes = np.clip(rng.lognormal(2.4, 0.4, count), 4, 26).astype(np.int64)
    drawn = rng.integers(0, len(pool), (count, 26), dtype=np.int32)
    copies = np.flatnonzero(rng.random(count) < 0.3)[1:]
    sources = (copies * rng.random(len(copies))).astype(np.int64)
    edits = [rng.integers(0, 26, len(copies)) for _ in range(4)]
    fresh = drawn[copies]
    drawn[copies], sizes[copies] = drawn[sources], sizes[sources]
    for number, places in enumerate(edits):
        edited = np.arange(len(copies)) % 4 >= number
        rows, columns = copies[edited], (places % sizes[copies])[edited]
        drawn[rows, columns] = fresh[edited, columns]
    chunks = []
    for rows in np.array_split(np.arange(count), max(1, count // 100_000)):
        edges = pa.array(np.concatenate(([0], np.cumsum(sizes[rows]))).astype(np.int32))
        chosen = pool.take(pa.array(drawn[rows][np.arange(26) < sizes[rows, None]]))
        chunks.append(pc.binary_join(pa.ListArray.from_arrays(edges, chosen), " "))
    return pa.chunked_array(chunks)


def similar_pairs(corpus: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of rows, earlier and later, with a Jaccard similarity of at least 0.7.

    All are compared, as sets of strings.

    Independent of every kernel and sketch: shared shingles are counted by a product of sparse matrices.
    """
    # The truth is another one where tokens are defined in another way.
    path = corpus.with_suffix(f".pairs-{SIGNATURE_FORMAT}.npy")
    if not path.exists():
        number: dict[str, int] = {}
        rows: list[list[int]] = []
        for text in pq.read_table(corpus)["text"].to_pylist():
            rows += [[number.setdefault(found, len(number)) for found in set(shingles(text, SHINGLE))]]
        np.save(path, np.stack(_overlapping(rows, len(number))))
    left, right = np.load(path)
    return left, right


def _overlapping(rows: list[list[int]], columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    sizes = np.array([len(row) for row in rows])
    edges = np.concatenate(([0], np.cumsum(sizes)))
    held = csr_array((np.ones(edges[-1], np.int32), np.concatenate(rows), edges), shape=(len(rows), columns))
    transposed = held.T.tocsr()
    left, right = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    step = max(1, 4_000_000 // len(rows))
    for start in range(0, len(rows), step):
        shared = (held[start : start + step] @ transposed).tocoo()
        one, other = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        similar = shared.data / (sizes[one] + sizes[other] - shared.data) >= THRESHOLD
        later = similar & (other > one)
        left.append(one[later])
        right.append(other[later])
    return np.concatenate(left), np.concatenate(right)


def _kept(name: str, made: Callable[[], Iterator[str]]) -> Path:
    path = FOLDER / f"{name}.parquet"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        hidden = path.with_suffix(".draft")
        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(hidden, schema, compression="zstd") as writer:
            pending: list[str] = []
            for text in made():
                pending.append(text)
                if len(pending) == 50_000:
                    writer.write_table(pa.table({"text": pending}, schema=schema))
                    pending = []
            writer.write_table(pa.table({"text": pending}, schema=schema))
        hidden.rename(path)
    return path


def _documents(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)  # noqa: S311
    sizes = np.clip(np.random.default_rng(seed).lognormal(5.0, 0.45, count), 50, 300).astype(int).tolist()
    recent: list[str] = []
    source, copies = "", 0
    for size in sizes:
        if not copies and recent and rng.random() < 0.125:
            source, copies = rng.choice(recent), min(64, int(1 / max(1e-3, rng.random()) ** 0.9))
        if copies and rng.random() < 0.7:
            copies -= 1
            yield _edited(source, rng.choice(RATES), rng)
            continue
        text = " ".join(_words(rng, size))
        if rng.random() < 0.2:
            recent.append(text)
            if len(recent) > 20_000:
                recent[rng.randrange(20_000)] = recent.pop()
        yield text


def _words(rng: random.Random, least: int) -> list[str]:
    """At least so many words, in whole sentences."""
    found: list[str] = []
    while len(found) < least:
        found += rng.choice(_sentences())
    return found


def _edited(text: str, rate: float, rng: random.Random) -> str:
    found: list[str] = []
    for word in text.split(" "):
        drawn = rng.random()
        if drawn >= rate or 0.6 * rate <= drawn < 0.8 * rate:
            found.append(word)
        if drawn < 0.8 * rate:
            found.append(rng.choice(_vocabulary()))
    return " ".join(found)


@lru_cache(maxsize=1)
def _sentences() -> list[list[str]]:
    """Distinct sentences of 5 to 40 words, mostly letters."""
    found: dict[str, list[str]] = {}
    for text, _ in iter_docstrings():
        for sentence in _SENTENCE_END.split(" ".join(text.split())):
            letters = sum(character.isalpha() or character == " " for character in sentence)
            if 5 <= sentence.count(" ") + 1 <= 40 and letters >= 0.85 * len(sentence):
                found.setdefault(sentence.lower(), sentence.split(" "))
    return list(found.values())


@lru_cache(maxsize=1)
def _vocabulary() -> list[str]:
    return sorted({word for sentence in _sentences() for word in sentence if word.isalpha()})
