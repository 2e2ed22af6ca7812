"""Generate malformed files of every source format from a seed, to test that ingestion rejects them cleanly."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

KINDS = ("jsonl", "csv", "tsv", "parquet", "txt", "md")


def write_malformed(path: Path, number: int) -> Path:
    """Write the malformed file of this number, named by its kind, into the folder `path`; returns its path."""
    rng = random.Random(number)  # noqa: S311  (not a secret)
    kind = KINDS[number % len(KINDS)]
    texts = [" ".join(rng.choices(_WORDS, k=rng.randint(3, 12))) + f" {place}" for place in range(60)]
    content = _CLEAN[kind](texts, rng)
    for spoil in rng.sample(_SPOILERS, rng.randint(1, 2)):
        content = spoil(content, rng)
    packing = "" if kind == "parquet" else rng.choice(["", "", ".gz", ".zst"])
    if packing:
        packed = gzip.compress(content, 1) if packing == ".gz" else pa.compress(content, "zstd", asbytes=True)
        content = rng.choice([_same, _same, _cut, _flip])(packed, rng)
    name = kind.upper() if rng.random() < 0.1 else kind
    file = path / f"{number}.{name}{packing}"
    file.write_bytes(content)
    return file


_WORDS = ("rain", "old", "river", "Grüße", "日本語", "naïve", "letter", "the", "a", "winter", "said", "👋")


def _jsonl(texts: list[str], rng: random.Random) -> bytes:
    strange: list[Any] = [
        {"text": None},
        {"text": {"deep": [1, {"er": "x"}]}},
        [1, 2],
        "a string",
        7,
        {"text": "\ud800"},
        {"text": "nul \0 inside"},
        {"messages": [{"role": "user", "content": "hi"}], "text": [{"role": "user", "content": "hi there"}]},
        {"text": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "### hello"}]},
        {"text": [{"role": 3, "content": None}]},
        {"text": []},
        {"id": 1, "text": "same id"},
        {"text": float("nan")},
    ]
    lines = [json.dumps({"id": 1, "text": text}, ensure_ascii=rng.random() < 0.5) for text in texts]
    lines += [json.dumps(rng.choice(strange)) for _ in range(8)]
    lines += ["[" * 5000, '{"text": "cut', "{}", "", "   ", '{"text": ' * 300]
    rng.shuffle(lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _separated(mark: str) -> Callable[[list[str], random.Random], bytes]:
    def write(texts: list[str], rng: random.Random) -> bytes:
        out = io.StringIO()
        rows = csv.writer(out, delimiter=mark)
        rows.writerow(rng.choice([["id", "text"], ["text"], ["text", "text"], ["id", "body"], []]))
        for text in texts:
            rows.writerow(rng.choice([["1", text], [text], ["1", text, "more"], [], ["1", f'{text}\n"x"\r\n']]))
        return out.getvalue().encode() + rng.choice([b"", b'1,"never closed\n' + b"x,y\n" * 2000])

    return write


def _parquet(texts: list[str], rng: random.Random) -> bytes:
    raw = [text.encode()[: rng.choice([1000, 5])] for text in texts]
    column: Any = rng.choice(
        [
            lambda: pa.array(texts),
            # Bytes under the name of a string: what a careless writer leaves.
            lambda: pa.StringArray.from_buffers(len(raw), *pa.array(raw, pa.binary()).buffers()[1:]),
            lambda: pa.array(range(len(texts))),
            lambda: pa.array([None, *texts[1:]]),
            lambda: pa.array([[{"role": "user", "content": text}] for text in texts]),
            lambda: pa.array([{"text": text} for text in texts]),
            lambda: pa.array(texts).dictionary_encode(),
            lambda: pa.array(["x" * 2_000_000] * len(texts)),
        ]
    )()
    sink = io.BytesIO()
    pq.write_table(pa.table({rng.choice(["text", "text", "text", "body"]): column}), sink)
    return sink.getvalue()


def _plain(texts: list[str], rng: random.Random) -> bytes:
    return rng.choice(["\n", "\n\n", "\r\n", "\r"]).join(texts).encode()


_CLEAN = {
    "jsonl": _jsonl,
    "csv": _separated(","),
    "tsv": _separated("\t"),
    "parquet": _parquet,
    "txt": _plain,
    "md": _plain,
}


def _same(content: bytes, _: random.Random) -> bytes:
    return content


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _flip(content: bytes, rng: random.Random) -> bytes:
    spoiled = bytearray(content)
    for _ in range(rng.randint(1, 20) if content else 0):
        spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
    return bytes(spoiled)


def _insert(*choices: bytes) -> Callable[[bytes, random.Random], bytes]:
    def spoil(content: bytes, rng: random.Random) -> bytes:
        at = rng.randint(0, len(content))
        return content[:at] + rng.choice(choices) + content[at:]

    return spoil


_SPOILERS: list[Callable[[bytes, random.Random], bytes]] = [
    _same,
    _cut,
    _flip,
    _insert(b"\xff\xfe\xfa", b"\0\0\0", b"caf\xe9", b"\xed\xa0\x80", b"\x1a"),
    # Longer than a document may be: a line, a field, a bomb once it is packed.
    _insert(b"x" * 300_000, b"\0" * 400_000, b'"' * 99_999, b"[" * 200_000, b"," * 100_000),
    lambda content, _: b"\xef\xbb\xbf" + content,
    lambda content, _: content.replace(b"\n", b"\r\n"),
    lambda content, _: content.replace(b"\n", b"\r"),
    lambda content, _: content.decode("utf-8", "replace").encode("utf-16"),
    lambda content, _: content + content,
    lambda _, __: b"",
    lambda _, __: b"\n\n  \n",
]
