"""The content of a file, packed or not, by chunks and by lines; a line may be too long, and is not held then."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

CHUNK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"


class UnreadableError(ValueError):
    """A file that cannot be read as what its name says; `reason` is the same for all files of that fault."""

    def __init__(self, place: object, reason: str, advice: str = "") -> None:
        self.reason = reason
        # Names of columns come from the file: they may hold line ends, and what cannot be printed.
        said = " ".join(f"{place} {reason}{advice and '; ' + advice}".split())
        super().__init__(said[:800].encode("utf-8", "replace").decode())


@dataclass(frozen=True)
class File:
    """One file of a source; without a kind it cannot be read."""

    path: Path
    name: str
    kind: str
    packing: str | None
    size: int
    named: bool


def lines_of(file: File, longest: int) -> Iterator[tuple[list[bytes | None], int, str]]:
    """Lines by the block, None for one that is too long, with the position and why nothing follows."""
    tail, skipping = b"", False
    for chunk, position, broken in chunks_of(file):
        if skipping:
            _, found, rest = chunk.partition(b"\n")
            skipping, tail = not found, rest
        else:
            tail += chunk
        lines: list[bytes | None] = []
        if not skipping:
            *whole, tail = tail.split(b"\n")
            # Two passes that cost nothing beside one that asks every line.
            too_long = max(map(len, whole), default=0) > longest
            lines += [None if len(line) > longest else line for line in whole] if too_long else whole
            if len(tail) > longest:
                lines.append(None)
                skipping, tail = True, b""
        if broken:
            yield [], position, cannot(broken)
            return
        yield lines, position, ""
    if tail and not skipping:
        yield [tail], file.size, ""


def chunks_of(file: File) -> Iterator[tuple[bytes, int, str]]:
    """The content, unpacked, with the position in the packed file; at the end what broke it, if anything did.

    Raises:
        UnreadableError: it cannot be opened, or is not packed as its name says.
    """
    read = 0
    try:
        packed = file.path.open("rb")
    except OSError as error:
        raise UnreadableError(file.path, "cannot be opened", error.strerror or "") from error
    with packed:
        content: Any = pa.CompressedInputStream(packed, file.packing) if file.packing else packed
        try:
            while chunk := content.read(CHUNK_BYTES):
                yield chunk if read else chunk.removeprefix(_BOM), packed.tell(), ""
                read += len(chunk)
        except OSError as error:
            if not read:
                raise UnreadableError(file.path, f"is no whole {file.packing} file", one_line(error)) from error
            yield b"", packed.tell(), one_line(error)


def cannot(error: str) -> str:
    """Why nothing more comes from a file that broke off."""
    return f"the rest cannot be read: {error}"


def one_line(error: Exception) -> str:
    """What a library says, fit for one sentence."""
    return " ".join(str(error).split())[:200]
