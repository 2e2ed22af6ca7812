"""Measure deduplication against indexed earlier generations.

20,000 documents after 280,000, and ten million in ten generations.

The code path is the product's: sketches and texts are artifacts of a run, new documents are compared with all of them,
and survivors are written and indexed. CPU time and memory are of one process per step, from before its documents are
read. Finished steps are kept under `benchmarks/work`; delete them to start over.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.figures import Figure, short
from benchmarks.performance import corpora
from benchmarks.performance.dedup_peers import touch_memory
from curation.dedup.exact import exact_keys
from curation.dedup.kernels.dispatch import default_kernel
from curation.dedup.minhash import MinHashSettings, band_hashes, find_near_duplicates_indexed, signatures
from storage.artifacts.artifact import Artifact
from tasks.curation.dedup_index import StoredIndex, compute_sketches

_SETTINGS = MinHashSettings(shingle_length=corpora.SHINGLE, threshold=corpora.THRESHOLD)
_OLD = 14
"""Generations before the new one; the first half of them is asked too, for how much the rest adds."""
_TENS = 10
_TOUCHED = 1_500_000_000
"""Bytes of memory that a step finds touched."""


def ten(new: int, many: int, stated: bool) -> list[Figure]:
    """Ten generations of `many` documents, then `new` ones. `stated`: limits of time count here."""
    costs = [_run_job("grow", many, number) for number in range(1, _TENS + 1)]
    met = _run_job("meet", many, new)
    total = many * _TENS
    cpu = sum(cost["cpu"] for cost in costs) / total * 1e6
    peak, size = max(cost["peak"] for cost in costs) / 1e9, sum(cost["bytes"] for cost in costs) / total
    what = f"{total:,} documents in {_TENS} generations"
    return [
        Figure(f"{what}: CPU per document", short(cpu), "us", "<= 20", cpu <= 20 if stated else None),
        Figure(f"{what}: the last generation, CPU per document", short(costs[-1]["cpu"] / many * 1e6), "us"),
        Figure(f"{what}: peak memory", short(peak), "GB", "<= 7", peak <= 7),
        Figure(f"{what}: index size per document", round(size), "bytes", "<= 500", size <= 500),
        Figure(
            f"candidates of {new:,} among {total:,}",
            short(met["cpu"]),
            "CPU s",
            "<= 1.5",
            met["cpu"] <= 1.5 if stated else None,
        ),
    ]


def after(new: int, stated: bool, turns: int) -> list[Figure]:
    """`new` documents after 14 times as many, in turns."""
    _run_job("old", new, _OLD)
    steps = {"ours": (new, _OLD), "ours, half": (new, _OLD // 2), "datasketch": (new, _OLD)}
    costs: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            costs[name].append(_child("step" if name.startswith("ours") else "rebuild", *step)["cpu"])
    ours, half, theirs = (statistics.median(costs[name]) for name in steps)
    slope, ratio = (ours - half) / (new * (_OLD - _OLD // 2)) * 1e6, theirs / ours
    what = f"{new:,} after {new * _OLD:,}"
    return [
        Figure(f"{what}: CPU", short(ours), "s", "<= 0.4", ours <= 0.4 if stated else None),
        Figure(f"{what}: growth per old document", short(slope), "us", "<= 0.15", slope <= 0.15 if stated else None),
        Figure(f"{what}: datasketch with stored signatures / Heirloom", short(ratio), "times", ">= 40", ratio >= 40),
    ]


Cost = dict[str, float]


def _run_job(job: str, *numbers: int) -> Cost:
    """As `_child`, remembered."""
    note = corpora.FOLDER / "grown" / f"{job}-{'-'.join(map(str, numbers))}.json"
    if not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(_child(job, *numbers)))
    cost: Cost = json.loads(note.read_text())
    return cost


def _child(job: str, *numbers: int) -> Cost:
    command = [sys.executable, "-m", "benchmarks.performance.incremental", job, *map(str, numbers)]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{process.stderr[-2000:]}")
    cost: Cost = json.loads(process.stdout.splitlines()[-1])
    return cost


def _tables(size: int, count: int) -> list[tuple[Artifact, Artifact]]:
    places = [corpora.FOLDER / f"grown/{size}/runs/x/generation={number}/attempt=1" for number in range(1, count + 1)]
    return [(Artifact(place / "index", {}), Artifact(place / "candidates", {})) for place in places]


def _publish(pair: tuple[Artifact, Artifact], records: pa.Table) -> None:
    """Texts as candidates are stored, then their sketches."""
    made, text_artifact = pair
    if not text_artifact.exists():
        with text_artifact.draft() as draft:
            draft.write_part(records)
    with made.draft() as draft:
        for part, start in enumerate(range(0, len(records), 100_000)):
            draft.write_part(compute_sketches(records.slice(start, 100_000), _SETTINGS), part)


def _records(texts: pa.ChunkedArray, generation: int) -> pa.Table:
    keys = exact_keys([str(row) for row in range(len(texts))])
    digests = [f"{high:016x}{low:016x}" for high, low in keys.tolist()]
    ids = [f"g{generation:03d}-{row:07d}" for row in range(len(texts))]
    return pa.table(
        {
            "id": ids,
            "text": texts,
            "text_hash": digests,
            "source_generation": pa.array([generation] * len(ids), pa.int32()),
        }
    )


def _survivors(texts: pa.ChunkedArray, past: StoredIndex) -> NDArray[np.bool_]:
    _, found = find_near_duplicates_indexed(texts, past.candidates, _SETTINGS, kernel=default_kernel())
    return found.kept


def _slice(size: int, number: int) -> pa.ChunkedArray:
    """Documents of one generation of a corpus of 15."""
    return pq.read_table(corpora.resampled(size * (_OLD + 1)))["text"].slice((number - 1) * size, size)


def _old(size: int, count: int) -> Callable[[], object]:
    """Index the generations that were before."""

    def work() -> None:
        for number, pair in enumerate(_tables(size, count), 1):
            if not pair[0].exists():
                _publish(pair, _records(_slice(size, number), number))

    return work


def _step(size: int, count: int) -> Callable[[], object]:
    texts = _slice(size, _OLD + 1)
    records = _records(texts, 99)
    corpus = corpora.FOLDER / "grown" / f"new-{size}.parquet"
    pq.write_table(records, corpus)
    tables = _tables(size, count)
    spare = corpora.FOLDER / f"grown/spare/runs/x/generation={count}/attempt=1"

    def work() -> None:
        fresh = pq.read_table(corpus)
        kept = fresh.filter(pa.array(_survivors(fresh["text"], StoredIndex(tables))))
        with Artifact(spare / f"index-{time.time_ns()}", {}).draft() as draft:
            draft.write_part(compute_sketches(kept, _SETTINGS))

    # A rehearsal: machine code and DuckDB are loaded.
    _survivors(texts.slice(0, 50), StoredIndex(tables[:1]))
    return work


def _rebuild(size: int, count: int) -> Callable[[], object]:
    """Datasketch's index, built from stored signatures and asked for new documents, as users who keep them do."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    from benchmarks.performance.dedup_peers import PERMUTATIONS, THRESHOLD, _shingles

    def bulk(texts: Iterable[str]) -> list[MinHash]:
        sets = ([one.encode() for one in _shingles(text)] for text in texts)
        return MinHash.bulk(sets, num_perm=PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)

    stored = corpora.FOLDER / "grown" / f"datasketch-{size}.npy"
    if not stored.exists():
        pieces = (_slice(size, number).to_pylist() for number in range(1, count + 1))
        np.save(stored, np.concatenate([[one.hashvalues for one in bulk(texts)] for texts in pieces]))

    def work() -> None:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
        for row, values in enumerate(np.load(stored)):
            one = MinHash(num_perm=PERMUTATIONS, hashvalues=values, scheme="affine32")
            index.insert(row, one, check_duplication=False)
        for place, one in enumerate(bulk(_slice(size, _OLD + 1).to_pylist())):
            if not index.query(one):
                index.insert(f"new-{place}", one, check_duplication=False)

    return work


def _grow(size: int, number: int) -> Callable[[], object]:
    """One of the ten generations.

    Its texts are on disk, are compared with all earlier ones, and survivors are indexed.
    """
    *before, pair = _tables(size, number)
    made, text_artifact = pair
    if not text_artifact.exists():
        with text_artifact.draft() as draft:
            draft.write_part(_records(corpora.joined(size, number), number))

    def work() -> None:
        from storage.artifacts.artifact import read_table

        records = read_table(text_artifact.folder, ["id", "text_hash", "source_generation", "text"])
        kept = _survivors(records["text"], StoredIndex(before))
        if not made.exists():
            _publish(pair, records.filter(pa.array(kept)))

    return work


def _meet(size: int, new: int) -> Callable[[], object]:
    texts = corpora.joined(new, _TENS + 1)
    hashes = band_hashes(signatures(texts, _SETTINGS), _SETTINGS)
    past = StoredIndex(_tables(size, _TENS))
    return lambda: past.intersect(hashes)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Do the job named on the command line, and print what it cost."""
    job, first, second = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    jobs = {"old": _old, "step": _step, "rebuild": _rebuild, "grow": _grow, "meet": _meet}
    work = jobs[job](first, second)
    touch_memory(_TOUCHED)
    before = _cpu()
    work()
    cost = {"cpu": _cpu() - before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if job == "grow":
        parts = _tables(first, second)[-1][0].folder.glob("*.parquet")
        cost["bytes"] = sum(part.stat().st_size for part in parts)
    print(json.dumps(cost))


if __name__ == "__main__":
    main()
