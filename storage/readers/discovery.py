"""Find the files and datasets of a source, and read them block by block.

A named file that cannot be read is an error. An unreadable file found in a folder becomes a rejected document with its
reason, so no file is skipped silently. So do files that are not text of the source: hidden files, lock files, dataset
cards; a hidden folder is one rejected document. `docs/sources.md` documents the supported formats.
"""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from heirloom.errors import HeirloomError
from storage.readers.base import BLOCK_BYTES, BLOCK_ROWS, Block, Columns, Document, SourceFile, UnreadableFileError
from storage.readers.formats import READERS
from storage.readers.huggingface import HF_PREFIX, read_dataset
from storage.readers.python_docs import LICENSE, iter_docstrings

PYTHON_DOCS = "python-docs"
"""Source name for the docstrings of the running Python."""

_TOOL_FOLDERS = {"CVS", "_darcs", "__MACOSX", "__pycache__", "node_modules"}
_PACKINGS = {".gz": "gzip", ".zst": "zstd"}


def find_files(source: str) -> list[SourceFile]:
    """Return the files of a path, folder or glob pattern, in order; none for sources that are no paths.

    Raises:
        HeirloomError: nothing matches, or no file has a supported format.
    """
    if source == PYTHON_DOCS or source.startswith(HF_PREFIX):
        return []
    path = Path(source)
    if path.is_file():
        if not (found := _file(path, path.name, named=True)).kind:
            raise HeirloomError(f"{source} is of no known kind; known kinds: {_known()}")
        return [found]
    if path.is_symlink() and not path.exists():
        raise HeirloomError(f"{source} is a broken link; it points to {path.readlink()}")
    if path.is_dir():
        found_files = sorted(_walk(path), key=lambda file: file.path)
    else:
        paths = sorted(Path(found) for found in glob.glob(source, recursive=True))
        if not paths:
            raise HeirloomError(
                f"{source} does not exist; name a file, a folder, {PYTHON_DOCS}, or a data set as {HF_PREFIX}NAME"
            )
        root = _fixed_part(path)
        found_files = [_found_file(found, root, root.resolve()) for found in paths if not found.is_dir()]
    if not any(file.kind for file in found_files):
        raise HeirloomError(f"{source} holds no file to read; known kinds: {_known()}")
    return found_files


def read_sources(sources: Sequence[tuple[str, Sequence[SourceFile]]], columns: Columns) -> Iterator[list[Block]]:
    """Yield the content of sources, in order, in groups of about one block; `sources` pairs each with its `find_files`.

    `position` of these blocks counts from the beginning of the first file.

    Raises:
        HeirloomError: a file that was named, or a data set, cannot be read.
    """
    # Small files are grouped, so that a folder of them is processed like one large file.
    group: list[Block] = []
    size = rows = 0
    for block in _blocks(sources, columns):
        group.append(block)
        size, rows = size + block.size(), rows + len(block.rows)
        if size >= BLOCK_BYTES or rows >= BLOCK_ROWS:
            yield group
            group, size, rows = [], 0, 0
    if group:
        yield group


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
        yield _whole(file, file.ignored or "of no known kind")
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


def _walk(root: Path) -> Iterator[SourceFile]:
    """Yield the files below a folder, and the folders that are not read, such as links to folders outside.

    A link in a folder that somebody else filled could name any file of this machine, so none is followed out of it.
    """
    unreadable: list[OSError] = []
    real_root = root.resolve()
    followed = {real_root}
    for parent, folders, names in os.walk(root, onerror=unreadable.append, followlinks=True):
        # The order decides which of several links to one folder is followed.
        folders.sort()
        for name in list(folders):
            folder = Path(parent, name)
            if reason := _reason_to_skip_folder(folder, real_root, followed):
                folders.remove(name)
                yield _ignored(folder, root, reason)
        for name in names:
            yield _found_file(Path(parent, name), root, real_root)
    for error in unreadable:
        yield _ignored(Path(error.filename), root, "a folder that cannot be opened")


def _reason_to_skip_folder(folder: Path, real_root: Path, followed: set[Path]) -> str:
    """Return why a folder is not read, or an empty string; targets of links are added to `followed`."""
    if folder.name.startswith("."):
        return "a hidden folder"
    if folder.name in _TOOL_FOLDERS:
        return "a folder of another program"
    if not folder.is_symlink():
        return ""
    target = folder.resolve()
    if not target.is_relative_to(real_root):
        return "a link to a folder outside of the source"
    if any(_reads(other, target) for other in followed):
        return "a link to a folder that is read elsewhere"
    followed.add(target)
    return ""


def _reads(root: Path, folder: Path) -> bool:
    """Return whether walking `root` reaches a folder; it does not enter hidden ones."""
    return folder.is_relative_to(root) and not any(part.startswith(".") for part in folder.relative_to(root).parts)


def _found_file(path: Path, root: Path, real_root: Path) -> SourceFile:
    if reason := _reason_to_skip_file(path, real_root):
        return _ignored(path, root, reason)
    return _file(path, path.relative_to(root).as_posix(), named=False)


def _reason_to_skip_file(path: Path, real_root: Path) -> str:
    """Return why a file that was found, not named, is not read; an empty string if it is."""
    if path.is_symlink() and not path.exists():
        return "a broken link"
    # Also of a file that is no link itself: a pattern can match below a link to a folder.
    if not path.resolve().is_relative_to(real_root):
        return "a link to a file outside of the source"
    reasons = {
        "not a regular file": not path.is_file(),
        "a lock file": path.name.startswith(("~$", ".~lock.")),
        "a hidden file": path.name.startswith("."),
    }
    if reason := next((reason for reason, applies in reasons.items() if applies), ""):
        return reason
    return "a dataset card" if path.name.lower() == "readme.md" and _has_front_matter(path) else ""


def _has_front_matter(path: Path) -> bool:
    """Return whether a file begins with YAML between lines of `---`, as cards of datasets and models do."""
    try:
        with path.open("rb") as file:
            return file.read(8).removeprefix(b"\xef\xbb\xbf").startswith((b"---\n", b"---\r\n"))
    except OSError:
        return False


def _ignored(path: Path, root: Path, reason: str) -> SourceFile:
    return SourceFile(path, path.relative_to(root).as_posix(), "", None, 0, explicit=False, ignored=reason)


def _fixed_part(pattern: Path) -> Path:
    """Return the folder of a glob pattern above its first part with wildcards."""
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
