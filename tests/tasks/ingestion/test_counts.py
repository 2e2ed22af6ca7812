"""Nothing of a source disappears: every row and every column of it is counted as read, rejected or not read."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.operations.readers import GeneratedFile, write_file
from curation.splitting import IngestSettings
from storage.readers.discovery import find_files, read_sources
from tasks.ingestion.read import BlockBatch, ReadResult, ScratchTables, input_columns, read_blocks


def _settings(file: GeneratedFile) -> IngestSettings:
    columns = file.columns
    return IngestSettings(
        text_column=columns.text,
        response_column=columns.response,
        id_column=columns.document_id,
        license_column=columns.license,
        source_column=columns.source,
        csv_delimiter=columns.delimiter,
        csv_quote=columns.quote,
        csv_escape=columns.escape,
    )


def _ingested(file: GeneratedFile, folder: Path) -> tuple[ReadResult, list[int], list[int]]:
    """Return counts, and the sorted row numbers of records and of rejected documents."""
    chosen = _settings(file)
    tables = ScratchTables.in_folder(folder)
    sources = [(str(file.path), find_files(str(file.path)))]
    blocks = [block for group in read_sources(sources, input_columns(chosen)) for block in group]
    result = read_blocks(tables, chosen, BlockBatch(number=0, blocks=blocks))
    kept, rejected = (
        sorted(row for table in scratch.iter_batches() for row in table["row_number"].to_pylist())
        for scratch in (tables.records, tables.rejected)
    )
    return result, kept, rejected


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_every_row_is_a_record_or_a_rejected_document(number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = write_file(Path(folder), number)
        result, kept, rejected = _ingested(file, Path(folder, "scratch"))
    num_rows = result.documents.total()
    assert sorted([*kept, *rejected]) == list(range(num_rows))
    assert (result.documents, result.reasons.total()) == (
        ({file.path.name: num_rows}, len(rejected)) if num_rows else ({}, 0)
    )
    if not file.is_damaged and "quoted TSV" not in file.marks and "empty line" not in file.marks:
        assert num_rows == len(file.written)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_every_column_is_read_or_counted_as_not_read(number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = write_file(Path(folder), number)
        result, _, _ = _ingested(file, Path(folder, "scratch"))
    if file.is_damaged or "quoted TSV" in file.marks or "empty line" in file.marks:
        return
    # A row of JSON lines has columns of its own; all rows of the other formats have those of the header.
    rows = file.written if file.kind == "jsonl" else [dict.fromkeys(file.header)] * len(file.written)
    read = {*input_columns(_settings(file)).names}
    assert result.unread_columns == Counter(name for row in rows for name in row if name not in read)
