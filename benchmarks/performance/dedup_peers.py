"""Run the near-duplicate search of other libraries as their users would.

Parquet in, dropped rows out, CPU time printed.

Run by the Python of an environment that holds the rival and pyarrow, and nothing of this project: `python rivals.py
METHOD CORPUS.parquet FOLDER` writes FOLDER/dropped.npy and prints one line of JSON. CPU time is of this process and its
children, from before the corpus is read; imports and a rehearsal on 50 texts and their copies come before. For
text-dedup, which is a command that imports each time, the rehearsal's time is taken off. All use 128 permutations,
shingles of five words and threshold 0.7.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PERMUTATIONS, LENGTH, THRESHOLD = 128, 5, 0.7
Method: TypeAlias = Callable[[Path, Path], list[int]]
"""A corpus and a folder to work in; the rows that it drops."""

_TOKEN = re.compile(r"\w+|[#$%&*+/<=>@\\^`|~]|(?<!\w)-|-(?!\w)")
"""Words and symbols, as the truth counts them."""


def _shingles(text: str) -> list[str]:
    found = _TOKEN.findall(text.lower())
    return [" ".join(found[i : i + LENGTH]) for i in range(max(1, len(found) - LENGTH + 1))]


def _texts(corpus: Path) -> list[str]:
    return pq.read_table(corpus)["text"].to_pylist()


def datasketch_naive(corpus: Path, _: Path) -> list[int]:
    """A MinHash a text, updated once a shingle."""
    from datasketch import MinHash

    def sketches() -> Iterable[Any]:
        for text in _texts(corpus):
            sketch = MinHash(PERMUTATIONS)
            for shingle in _shingles(text):
                sketch.update(shingle.encode())
            yield sketch

    return _by_lsh(sketches())


def datasketch_bulk(corpus: Path, _: Path) -> list[int]:
    """`MinHash.bulk` with xxh32: the fastest way through datasketch alone."""
    import xxhash
    from datasketch import MinHash

    sets = ([shingle.encode() for shingle in _shingles(text)] for text in _texts(corpus))
    return _by_lsh(MinHash.bulk(sets, num_perm=PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest))


def _by_lsh(sketches: Iterable[Any]) -> list[int]:
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    dropped = []
    for row, sketch in enumerate(sketches):
        if index.query(sketch):
            dropped.append(row)
        else:
            index.insert(row, sketch, check_duplication=False)
    return dropped


def rensa(corpus: Path, _: Path) -> list[int]:
    """R-MinHash and its deduplicator."""
    from rensa import RMinHash, RMinHashDeduplicator

    sketches = RMinHash.from_token_sets([_shingles(text) for text in _texts(corpus)], num_perm=PERMUTATIONS, seed=42)
    index = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True, num_bands=16)
    kept = index.add_pairs([(str(row), sketch) for row, sketch in enumerate(sketches)])
    return [row for row, stays in enumerate(kept) if not stays]


def datatrove(corpus: Path, folder: Path) -> list[int]:
    """Its four steps with its own settings, on one worker: CPU time of its pools cannot be measured here."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    def place(name: str) -> str:
        return str(folder / name)

    table = pq.read_table(corpus)
    named = table.append_column("id", pa.array([str(row) for row in range(len(table))]))
    (folder / "in").mkdir()
    half = len(table) // 2
    pq.write_table(named.slice(0, half), folder / "in/0.parquet")
    pq.write_table(named.slice(half), folder / "in/1.parquet")
    steps = [
        ([ParquetReader(place("in")), MinhashDedupSignature(place("signatures"))], 2),
        ([MinhashDedupBuckets(place("signatures"), place("buckets"))], 14),
        ([MinhashDedupCluster(place("buckets"), place("removed"))], 1),
        ([ParquetReader(place("in")), MinhashDedupFilter(place("removed")), ParquetWriter(place("out"))], 2),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=place(f"logs-{number}")).run()
    kept = {int(found) for found in pq.read_table(folder / "out", columns=["id"])["id"].to_pylist()}
    return [row for row in range(len(table)) if row not in kept]


def text_dedup(corpus: Path, folder: Path) -> list[int]:
    """Its command, with two processes and xxh3."""
    from datasets import load_from_disk

    table = pq.read_table(corpus)
    pq.write_table(table.append_column("row", pa.array(np.arange(len(table)))), folder / "in.parquet")
    flags = {
        "path": "parquet",
        "data_files": folder / "in.parquet",
        "split": "train",
        "cache_dir": folder / "cache",
        "output": folder / "out",
        "column": "text",
        "ngram": LENGTH,
        "num_perm": PERMUTATIONS,
        "threshold": THRESHOLD,
        "min_length": 1,
        "num_proc": 2,
        "hash_func": "xxh3",
        "hash_bits": 64,
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "text_dedup.minhash", *arguments]
    subprocess.run(command, check=True, capture_output=True, env=offline)
    kept = set(load_from_disk(str(folder / "out"))["row"])
    return [row for row in range(len(table)) if row not in kept]


METHODS: dict[str, Method] = {
    "datasketch naive": datasketch_naive,
    "datasketch bulk": datasketch_bulk,
    "rensa": rensa,
    "datatrove": datatrove,
    "text-dedup": text_dedup,
}


def touch_memory(size: int) -> None:
    """Take so many bytes and give them back.

    A page that a virtual machine's host took back costs tens of microseconds at its first touch.
    """
    np.ones(size, np.uint8)


_MOST_TOUCHED = 6_000_000_000


def run(method: Method, corpus: Path, folder: Path) -> None:
    """Run one method in this process, keep what it dropped, and print what it cost."""
    few, first = folder / "few.parquet", pq.read_table(corpus).slice(0, 50)
    pq.write_table(pa.concat_tables([first, first]), few)
    rehearsal, _ = _timed(method, few, folder)
    touch_memory(min(_MOST_TOUCHED, 30 * corpus.stat().st_size))
    cost, dropped = _timed(method, corpus, folder)
    if method is text_dedup:
        cost = {what: spent - rehearsal[what] for what, spent in cost.items()}
    np.save(folder / "dropped.npy", np.array(dropped, np.int64))
    print(json.dumps(cost))


def _timed(method: Method, corpus: Path, folder: Path) -> tuple[dict[str, float], list[int]]:
    place = folder / "work"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    wall, before = time.monotonic(), _cpu()
    dropped = method(corpus, place)
    return {"cpu": _cpu() - before, "wall": time.monotonic() - wall}, dropped


def _cpu() -> float:
    """Seconds of CPU of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    name, corpus_path, folder_path = sys.argv[1:]
    run(METHODS[name], Path(corpus_path), Path(folder_path))
