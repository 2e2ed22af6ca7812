"""Estimate the cost of ten generations of 10^9 records and 10^12 tokens from unit costs and their growth.

Each stage is measured at two sizes, the second four times the first, in CPU seconds of this process. The exponent
between them shows whether unit costs may be multiplied; docs/scale.md has the conclusions and assumptions.
"""

import json
import math
import resource
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import RESULTS, Figure, short
from benchmarks.performance.corpora import resampled
from curation.dedup.minhash import MinHashSettings, find_near_duplicates
from curation.embeddings.encoders import load_encoder
from curation.mixing import MixPools, MixSettings, draw_mix
from storage.artifacts.parquet_io import write_parquet
from tasks.curation.dedup_index import compute_sketches

RECORDS, TOKENS, GENERATIONS = 10**9, 10**12, 10
"""Of all generations together: 1,000 tokens a record."""
_GROWTH = 4
_ENGINE = "generate, embedded engine"


@dataclass(frozen=True)
class Unit:
    """What one stage costs: CPU seconds a unit at the larger size, and how that grows; 1 is in proportion."""

    name: str
    of: str
    seconds: float
    exponent: float
    times: float
    """Units in the whole plan."""

    @property
    def core_hours(self) -> float:
        """Of the whole plan, on cores like these, in proportion."""
        return self.seconds * self.times / 3600


def measure(documents: int = 20_000) -> list[Figure]:
    """Count every unit, and put the whole plan together."""
    with tempfile.TemporaryDirectory(prefix="heirloom-scale-") as folder:
        units = list(_units(documents, Path(folder)))
        bytes_of = _bytes_a_record(documents, Path(folder))
    figures = [figure for unit in units for figure in _unit_figures(unit)]
    figures += [Figure(f"bytes per record: {name}", short(size), "bytes") for name, size in bytes_of.items()]
    figures += [Figure(f"total: {name}", short(size * RECORDS / 2**40), "TiB") for name, size in bytes_of.items()]
    return [
        *figures,
        *_generation_figures(),
        Figure("total: curation and queries", short(sum(unit.core_hours for unit in units)), "core hours"),
    ]


def _unit_figures(unit: Unit) -> Iterator[Figure]:
    yield Figure(f"{unit.name}: CPU per {unit.of}", short(unit.seconds * 1e6), "µs")
    yield Figure(f"{unit.name}: growth", round(unit.exponent, 2), "exponent", "<= 1.15", unit.exponent <= 1.15)
    yield Figure(f"total: {unit.name}", short(unit.core_hours), "core hours")


def _units(documents: int, folder: Path) -> Iterator[Unit]:
    texts = _texts(documents)
    encoder = load_encoder("minilm")
    minhash = MinHashSettings()
    yield _unit("sketch", "record", lambda some: compute_sketches(_records(some), minhash), texts)
    yield _unit(
        "near-duplicates within a generation", "record", lambda some: find_near_duplicates(some, (), minhash), texts
    )
    yield _unit("embed", "record", encoder.encode, texts[: documents // 16])
    yield _unit("write and pack", "record", lambda some: write_parquet(_records(some), folder / "part.parquet"), texts)
    mixing = MixSettings(policy="fixed-fraction", human_fraction=0.3)
    rows = range(documents * 50)
    yield _unit(
        "mix",
        "record",
        lambda some: draw_mix(mixing, MixPools(num_human=len(some), num_newest=len(some)), np.random.default_rng(0)),
        rows,
    )
    yield _unit("query: a count over a generation", "record", lambda some: _asked(some, folder), rows)


def _unit(name: str, of: str, work: Callable[[Sequence[Any]], object], items: Sequence[Any]) -> Unit:
    fewer = items[: len(items) // _GROWTH]
    work(fewer[:64])
    # In turns, the cheapest of each: other work on the machine only ever adds.
    small, large = (
        min(costs) for costs in zip(*((_cpu(work, fewer), _cpu(work, items)) for _ in range(3)), strict=True)
    )
    exponent = math.log(large / small) / math.log(len(items) / len(fewer))
    return Unit(name, of, large / len(items), exponent, RECORDS)


def _cpu(work: Callable[[Sequence[Any]], object], items: Sequence[Any]) -> float:
    since = resource.getrusage(resource.RUSAGE_SELF)
    work(items)
    now = resource.getrusage(resource.RUSAGE_SELF)
    return max(1e-6, now.ru_utime + now.ru_stime - since.ru_utime - since.ru_stime)


def _asked(rows: Sequence[Any], folder: Path) -> None:
    path = folder / f"asked-{len(rows)}.parquet"
    if not path.exists():
        kinds = pa.DictionaryArray.from_arrays(
            np.arange(len(rows), dtype=np.int8) % 7, [f"stage-{one}" for one in range(7)]
        )
        write_parquet(
            pa.table({"id": [f"g001-{one:09}" for one in range(len(rows))], "filter": kinds.cast(pa.string())}), path
        )
    with duckdb.connect() as connection:
        connection.sql(f"select filter, count(*) from read_parquet('{path}') group by all").fetchall()


def _bytes_a_record(documents: int, folder: Path) -> dict[str, float]:
    texts = _texts(documents)
    found = {}
    for name, table in (
        ("text, packed", _records(texts)),
        ("sketch in the index", compute_sketches(_records(texts), MinHashSettings())),
    ):
        path = folder / "bytes.parquet"
        write_parquet(table, path)
        found[name] = path.stat().st_size / documents
    return found | {"vector at half precision": float(load_encoder("minilm").encode(["one"]).shape[1] * 2)}


def _texts(documents: int) -> list[str]:
    return list(pq.read_table(resampled(documents), columns=["text"])["text"].to_pylist())


def _records(texts: Sequence[Any]) -> pa.Table:
    return pa.table(
        {
            "id": [f"g001-{one:07}" for one in range(len(texts))],
            "text": list(texts),
            "text_hash": [f"{one:016x}" for one in range(len(texts))],
            "source_generation": pa.array(np.ones(len(texts), np.int32)),
        }
    )


def _generation_figures() -> list[Figure]:
    """Generation is tokens, and a card's rate is its own: what a core does here is measured, the rest is division."""
    path = RESULTS / "generation.json"
    values = {one["name"]: one["value"] for one in json.loads(path.read_text())["figures"]}
    hours = TOKENS / values[_ENGINE] / 3600
    return [
        Figure("generate, the tiny model of the demo: CPU per token", short(1e6 / values[_ENGINE]), "µs"),
        Figure("total: generate with the tiny model", short(hours), "core hours"),
        *(
            Figure(
                f"total: generate at {rate:,} tokens per second and GPU",
                short(TOKENS / rate / 3600),
                "GPU hours",
            )
            for rate in (1_000, 10_000, 50_000)
        ),
    ]
