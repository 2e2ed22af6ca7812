"""Look at the beginning of a source before it is ingested: what its documents are, and in which columns they stand."""

import glob
import re
import statistics
from dataclasses import dataclass
from itertools import islice

from heirloom.errors import HeirloomError, one_line
from storage.query.catalog import sql_identifier, sql_literal
from storage.readers.base import DEFAULT_TEXT_COLUMN, Columns, SourceFile
from storage.readers.conversations import find_shape
from storage.readers.discovery import find_files
from storage.readers.documents import read_documents

_SAMPLE_SIZE = 200
_DUCKDB_READERS = {
    ".jsonl": "read_json",
    ".ndjson": "read_json",
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".parquet": "read_parquet",
}
"""Table functions of DuckDB for files with columns."""
_USUAL_NAMES = (DEFAULT_TEXT_COLUMN, "content", "body", "document", "article", "prompt", "question", "instruction")
"""Names of columns that are taken before longer ones."""
_MESSAGES_TYPE = re.compile(r"""STRUCT\(.*\b(role|from)"? VARCHAR.*\)\[\]""")
"""DuckDB's type of a list of messages."""


@dataclass(frozen=True, kw_only=True)
class SourceSample:
    """The beginning of a source."""

    num_sampled: int
    num_files: int
    """0 for sources that are no files."""
    text_column: str
    other_columns: tuple[str, ...]
    """Columns of the first file with columns that may hold text too."""
    shape: str
    """What conversations were taken for, by their common name; empty for documents."""
    median_chars: int
    """Median length of the sampled texts."""


def sample_source(source: str, text_column: str = "") -> SourceSample:
    """Read the first documents of a source.

    Without a given text column, a source whose columns are neither `text` nor a known shape of conversations is read by
    a column of messages, by one of the usual names, or by its longest text, in this order.

    Raises:
        HeirloomError: the source does not exist or has no text.
    """
    files = find_files(source)
    first = next((file for file in files if file.kind), None)
    columns = _rank_text_columns(first) if first and first.kind in _DUCKDB_READERS else [DEFAULT_TEXT_COLUMN]
    text_column = text_column or columns[0]
    documents = [
        document
        for document in islice(read_documents(source, Columns(text=text_column)), _SAMPLE_SIZE)
        if not document.error
    ]
    if not documents:
        raise HeirloomError(
            f"{source} has no text in column `{text_column}` of its first {_SAMPLE_SIZE} documents. Name another one "
            "with `--text-column`."
        )
    return SourceSample(
        num_sampled=len(documents),
        num_files=sum(bool(file.kind) for file in files),
        text_column=text_column,
        other_columns=tuple(name for name in columns if name != text_column),
        shape=documents[0].shape,
        median_chars=round(statistics.median(len(document.content) for document in documents)),
    )


def _rank_text_columns(file: SourceFile) -> list[str]:
    """Return the columns of a file that may be the text, the likeliest first.

    Raises:
        HeirloomError: the file cannot be read, or has no such column.
    """
    # Imported here, so that commands without queries do not pay for it.
    import duckdb

    connection = duckdb.connect()
    source = f"(from {_DUCKDB_READERS[file.kind]}({sql_literal(glob.escape(str(file.path)))}) limit {_SAMPLE_SIZE})"
    try:
        types = {name: str(kind) for name, kind, *_ in connection.execute(f"describe from {source}").fetchall()}
        if find_shape(types):
            return [DEFAULT_TEXT_COLUMN]
        texts = [name for name, kind in types.items() if kind == "VARCHAR"]
        means = ", ".join(f"coalesce(avg(length({sql_identifier(name)})), 0)" for name in texts)
        lengths = connection.execute(f"select {means} from {source}").fetchone() if texts else ()
    except duckdb.Error as error:
        raise HeirloomError(f"{file.path} cannot be read: {one_line(error)}") from error
    mean_lengths = dict(zip(texts, lengths or (), strict=True))
    ranked = sorted(
        (name for name in texts if mean_lengths[name]),
        key=lambda name: (_USUAL_NAMES.index(name) if name in _USUAL_NAMES else len(_USUAL_NAMES), -mean_lengths[name]),
    )
    ranked = [name for name, kind in types.items() if _MESSAGES_TYPE.fullmatch(kind)] + ranked
    if not ranked:
        raise HeirloomError(f"{file.path} has no column of text; its columns: {', '.join(types)}.")
    return ranked
