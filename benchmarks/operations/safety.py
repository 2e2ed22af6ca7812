"""Damage every kind of file that Heirloom reads, 10,000 times: one sentence or a rejected row, never a traceback."""

import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure
from curation.splitting import IngestSettings
from flows.config.loading import load_recipe, load_site
from flows.config.recipe import Recipe
from flows.config.site import Site
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST
from storage.artifacts.seals import JOURNAL, TOMBSTONES_FILE
from storage.artifacts.tombstones import SEAL_FILE, add_tombstones, read_tombstones
from storage.maintenance.verify import verify
from storage.query.sandbox import execute, open_readonly
from storage.readers.base import Columns
from storage.readers.discovery import find_files, read_sources
from storage.readers.documents import documents
from storage.runs.run import Run
from storage.runs.status import attempt_summaries, run_state

CASES = 10_000
_ATTEMPT = "runs/tiny/generation=1/attempt=1"
_VALUES: tuple[object, ...] = (
    None,
    0,
    -1,
    1e308,
    2**70,
    "",
    "x",
    "../../x",
    "\x1b[2J",
    "\u202e",
    True,
    [],
    [1],
    {},
    {"a": 1},
    [[]] * 3,
)
_TOKENS = (b"\0", b"\xff\xfe", b"\n", b'"', b"\\", b"{", b"[" * 2000, b",", b"null", b"NaN", b"1e999", b"\xed\xa0\x80")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One kind of file: where it is, and everything that reads it."""

    path: Path
    read: Callable[[], object]


@dataclass
class Outcome:
    """What damaged files led to."""

    counts: Counter[str] = field(default_factory=Counter)
    """Cases by outcome: `read`, or `sentence`."""
    tracebacks: list[str] = field(default_factory=list)
    """Reader, case and error of each other exception."""


def store_readers(store: Path) -> dict[str, Reader]:
    """Return the readers of the files of a store that has the run `tiny` and a tombstone."""
    run = Run(store, "tiny")

    def read_run() -> None:
        run.journal()
        run_state(run)
        attempt_summaries(run)

    def read_all() -> None:
        verify(store)
        read_run()
        catalog = open_readonly(store)
        execute(catalog, "select count(*), max(text) from corpus", {}, lambda result: result.fetchall())

    return {
        "manifest": Reader(path=store / _ATTEMPT / "corpus" / MANIFEST, read=read_all),
        "journal": Reader(path=store / "runs/tiny" / JOURNAL, read=read_all),
        "run.json": Reader(path=store / "runs/tiny/run.json", read=read_all),
        "parquet": Reader(path=store / _ATTEMPT / "corpus/part-00000.parquet", read=read_all),
        "tombstones": Reader(path=store / TOMBSTONES_FILE, read=lambda: read_tombstones(store)),
        "seal": Reader(path=store / SEAL_FILE, read=lambda: read_tombstones(store)),
    }


def input_readers(folder: Path) -> dict[str, Reader]:
    """Write one small file of every kind of input to a folder and return their readers."""
    folder.mkdir(exist_ok=True)
    texts = ["One text.", "Zwei: Grüße", "Three, with a comma"]
    rows = "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts)
    contents = {
        "a.jsonl": rows,
        "a.csv": "n,text\n" + "".join(f'1,"{text}"\n' for text in texts),
        "a.tsv": "n\ttext\n" + "".join(f"1\t{text}\n" for text in texts),
        "a.txt": texts[0],
        "a.md": "# Title\n\n" + texts[1],
        "recipe.toml": 'name = "a"\nseed = 1\n[train]\nbackend = "ngram"\norder = 2\n[curate]\nfilters = ["exact"]\n',
        "site.toml": 'store = "x"\n[resources]\nserver_urls = ["http://localhost:8000"]\n',
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    pq.write_table(pa.table({"text": texts, "n": [1, 2, 3]}), folder / "a.parquet")

    def reader(name: str) -> Reader:
        return Reader(path=folder / name, read=lambda: _read_documents(folder / name))

    readers = {name: reader(name) for name in ("a.jsonl", "a.csv", "a.tsv", "a.txt", "a.md", "a.parquet")}
    recipe, site = folder / "recipe.toml", folder / "site.toml"
    return readers | {
        "recipe": Reader(path=recipe, read=lambda: load_recipe(str(recipe), [])),
        "site": Reader(path=site, read=lambda: load_site(str(site), None)),
    }


def _read_documents(path: Path) -> int:
    columns = Columns("text")
    blocks = read_sources([(str(path), find_files(str(path)))], columns)
    return sum(1 for several in blocks for block in several for _ in documents(block, columns))


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return a content with one to three changes: of values, if it is JSON, or of bytes."""
    for _ in range(rng.randint(1, 3)):
        content = _with_other_value(content, rng) if rng.random() < 0.5 else _with_other_bytes(content, rng)
    return content


def _with_other_value(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines() if content.count(b"\n{") else [content]
    place = rng.randrange(len(lines)) if lines else 0
    try:
        value = json.loads(lines[place])
    except (ValueError, IndexError, RecursionError):
        return _with_other_bytes(content, rng)
    holders = list(_holders(value))
    if not holders or rng.random() < 0.1:
        lines[place] = json.dumps(rng.choice(_VALUES)).encode()
        return b"\n".join(lines) + b"\n"
    holder, key = rng.choice(holders)
    if rng.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    else:
        cast("dict[object, object]", holder)[key] = rng.choice(_VALUES)
    lines[place] = json.dumps(value).encode()
    return b"\n".join(lines) + b"\n"


def _holders(value: object) -> Iterator[tuple[dict[object, object] | list[object], object]]:
    """Yield every dict or list of a JSON value with each of its keys."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key  # type: ignore[misc]
        yield from _holders(inner)


def _with_other_bytes(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    other = rng.randrange(len(content) + 1)
    match rng.randrange(5):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + rng.choice(_TOKENS) + content[place:]
        case 2:
            return content[: min(place, other)] + content[max(place, other) :]
        case 3:
            return content[:place] + content[min(place, other) : max(place, other)] + content[place:]
        case _:
            return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]


def try_damaged(name: str, reader: Reader, rng: random.Random, outcome: Outcome) -> None:
    """Damage the file of a reader, read it, note the outcome, and restore the file."""
    before = reader.path.read_bytes()
    damaged = damage(before, rng)
    try:
        reader.path.write_bytes(damaged)
        reader.read()
        outcome.counts["read"] += 1
    except HeirloomError:
        outcome.counts["sentence"] += 1
    except Exception as error:  # noqa: BLE001  (what this looks for)
        outcome.tracebacks.append(f"{name}: {type(error).__name__}: {error}: {damaged[:300]!r}")
    finally:
        reader.path.write_bytes(before)


def small_store(folder: Path) -> Path:
    """Write a store with the run `tiny` and one tombstone, and return it."""
    # Imported here, since Prefect takes seconds.
    from flows.evolve import evolve
    from tasks.ingestion.ingest import ingest
    from tasks.orchestration.prefect import without_prefect

    rng, letters = random.Random(0), folder / "letters.jsonl"  # noqa: S311
    words = ["river", "garden", "letter", "winter", "village", "mountain", "harbour", "teacher", "candle", "orchard"]
    lines = [json.dumps({"text": " ".join(rng.choices(words, k=30))}) for _ in range(100)]
    letters.write_text("\n".join(lines))
    recipe = {
        "name": "tiny",
        "dataset": "letters",
        "num_generations": 1,
        "train": {"backend": "ngram"},
        "curate": {"encoder": "hashing"},
        "evaluate": {"num_samples": 10},
    }
    with without_prefect():
        ingest(folder / "store", "letters", [str(letters)], IngestSettings())
        evolve(Recipe.model_validate(recipe), Site(store=folder / "store"))
    add_tombstones(folder / "store", {"h-1": "0" * 32}, "withdrawn")
    return folder / "store"


def measure() -> list[Figure]:
    """Damage files of every kind, in turn."""
    folder = Path(tempfile.mkdtemp(prefix="heirloom-safety-"))
    try:
        readers = store_readers(small_store(folder)) | input_readers(folder / "inputs")
        outcome = Outcome()
        names = list(readers)
        for case in range(CASES):
            name = names[case % len(names)]
            try_damaged(name, readers[name], random.Random(case), outcome)  # noqa: S311
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for traceback in outcome.tracebacks[:20]:
        print(traceback)
    return [
        Figure("damaged files", CASES, "cases", ">= 10,000", CASES >= 10_000),
        Figure("damaged files: tracebacks", len(outcome.tracebacks), "cases", "0", not outcome.tracebacks),
        Figure("damaged files: one sentence", outcome.counts["sentence"], "cases"),
        Figure("damaged files: read, damage rejected or reported", outcome.counts["read"], "cases"),
    ]
