"""Doors in: which files and data sets a source stands for, and what is told of those that cannot be read.

A file that was named is refused in one sentence if it cannot be read; a file that was found in a folder is set
aside with its reason, never passed over unseen. `docs/sources.md` says what each kind becomes.
"""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from heirloom.errors import HeirloomError
from storage.readers.base import BLOCK_BYTES, BLOCK_ROWS, Block, Columns, Document, SourceFile, UnreadableFileError
from storage.readers.formats import READERS
from storage.readers.huggingface import HF_PREFIX, read_dataset
from storage.readers.python_docs import LICENSE, iter_docstrings

PYTHON_DOCS = "python-docs"
"""The name that stands for the docstrings of the running Python instead of a path."""

_PACKINGS = {".gz": "gzip", ".zst": "zstd"}


def find_files(source: str) -> list[SourceFile]:
    """The files of a path, a folder or a pattern, in order; none for what is no path.

    Raises:
        HeirloomError: nothing is there, or it is of no known kind.
    """
    if source == PYTHON_DOCS or source.startswith(HF_PREFIX):
        return []
    path = Path(source)
    if path.is_file():
        if not (found := _file(path, path.name, named=True)).kind:
            raise HeirloomError(f"{source} is of no known kind; known kinds: {_known()}")
        return [found]
    root = path if path.is_dir() else _fixed_part(path)
    paths = list(path.rglob("*")) if path.is_dir() else [Path(found) for found in glob.glob(source, recursive=True)]
    if not path.is_dir() and not paths:
        raise HeirloomError(
            f"{source} does not exist; name a file, a folder, {PYTHON_DOCS}, or a data set as {HF_PREFIX}NAME"
        )
    found_files = [
        _file(found, found.relative_to(root).as_posix(), named=False) for found in sorted(paths) if found.is_file()
    ]
    if not any(file.kind for file in found_files):
        raise HeirloomError(f"{source} holds no file to read; known kinds: {_known()}")
    return found_files


def read_sources(sources: Sequence[tuple[str, Sequence[SourceFile]]], columns: Columns) -> Iterator[list[Block]]:
    """What sources hold, in order, by about as much as one block; each comes with the files that `find_files` found.

    `position` of these blocks counts from the beginning of the first file.

    Raises:
        HeirloomError: a file that was named, or a data set, cannot be read.
    """
    # A folder of small files is read like one large file.
    together: list[Block] = []
    size = rows = 0
    for block in _blocks(sources, columns):
        together.append(block)
        size, rows = size + block.size(), rows + len(block.rows)
        if size >= BLOCK_BYTES or rows >= BLOCK_ROWS:
            yield together
            together, size, rows = [], 0, 0
    if together:
        yield together


def _blocks(sources: Sequence[tuple[str, Sequence[SourceFile]]], columns: Columns) -> Iterator[Block]:
    read = 0
    for source, files in sources:
        if source == PYTHON_DOCS:
            yield from _docstrings()
        elif source.startswith(HF_PREFIX):
            yield from read_dataset(source, columns)
        for file in files:
            for block in _blocks_of(file, columns):
                yield replace(block, position=read + block.position)
            read += file.size


def _blocks_of(file: SourceFile, columns: Columns) -> Iterator[Block]:
    if not file.kind:
        yield _whole(file, "of no known kind")
        return
    try:
        yield from READERS[file.kind](file, columns)
    except UnreadableFileError as error:
        if file.explicit:
            raise
        yield _whole(file, error.reason)


def _file(path: Path, name: str, *, named: bool) -> SourceFile:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packing = _PACKINGS.get(suffixes[-1]) if suffixes else None
    kind = suffixes[-2 if packing else -1] if len(suffixes) > (1 if packing else 0) else ""
    readable = kind in READERS and not (packing and kind == ".parquet")
    return SourceFile(path, name, kind if readable else "", packing, path.stat().st_size, named)


def _fixed_part(pattern: Path) -> Path:
    """The folder of a pattern above its first part with a star, a question mark or a bracket."""
    fixed = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _known() -> str:
    return f"{', '.join(READERS)}; all but .parquet also as .gz or .zst"


def _whole(file: SourceFile, reason: str) -> Block:
    return Block(file.name, 0, [Document("", file.name, 0, error=reason)], "documents", file.size)


def _docstrings() -> Iterator[Block]:
    for place, (text, module) in enumerate(iter_docstrings()):
        yield Block(module, place, [Document(text, module, place, LICENSE)], "documents")
