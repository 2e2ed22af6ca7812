"""Filter any corpus once, without a run: write the texts that are kept, and a decision for every text and filter.

A text is named by its file and row, as `letters.jsonl#17`. The decisions of each filter are one part of the draft, so
an interrupted command resumes after its last finished filter.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions import EMPTY_RECORDS, FilterResult, RecordSet, decision_table
from curation.embeddings.base import Vectors
from curation.embeddings.encoders import load_encoder
from curation.filters.base import FilterContext
from curation.filters.pii import mask_pii
from curation.metrics.filter_rates import FilterRates, find_filter_rate_alerts
from curation.pipeline import CurateSettings, run_filters
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, Artifact, Draft, read_manifest
from storage.artifacts.parquet_io import write_parquet
from storage.artifacts.schemas import CONVERSATION, DECISIONS
from storage.artifacts.survivors import dropped_ids
from storage.readers.base import Columns
from storage.readers.other_columns import ROW, read_other_columns
from tasks.curation.decision_table import KEPT_SCHEMA, count_equal_shingles, to_stored_decisions
from tasks.curation.filter_rates import count_filter_rates
from tasks.curation.reference import ReferenceTexts, hex_digest, load_reference, read_texts, source_paths
from tasks.orchestration.progress import progress

_READ = "read"
"""The name under which unreadable texts stand among the decisions."""
_NUM_EXAMPLES, _EXAMPLE_CHARACTERS = 3, 160
"""Pairs of duplicates per filter in the summary, and characters of each text."""


class DropCount(TypedDict):
    """Texts that one filter dropped for one reason, of those that it saw."""

    filter: str
    reason: str
    dropped: int
    of: int


class DuplicateExample(TypedDict):
    """A dropped text, and the text that it duplicates."""

    filter: str
    similarity: float
    id: str
    duplicate_of: str
    text: str
    duplicate_of_text: str


class CurateFacts(TypedDict):
    """Counts of texts, alerts, and examples of duplicates."""

    texts: int
    kept: int
    masked: int
    truncated: int
    """Texts of which filters compared only the beginning."""
    equal_shingles: int
    """Near-duplicates of which filters compared all but case, punctuation and white space, with a similarity of 1."""
    dropped: list[DropCount]
    filter_rate_alerts: list[dict[str, str]]
    other_columns: dict[str, str]
    """Names of other columns in the source, by their names in `kept.parquet`."""
    unmasked_columns: list[str]
    """Columns that are left out, since personal data in them cannot be masked."""
    examples: list[DuplicateExample]


def curate_corpus(
    source: str, references: Sequence[str], columns: Columns, folder: Path, settings: CurateSettings
) -> CurateFacts:
    """Publish `kept.parquet` and `decisions.parquet` in a folder, unless they are finished there.

    Args:
        source: the corpus: a file, folder, pattern or dataset.
        references: known texts. A text of `source` that duplicates one of them is dropped; they are never kept.
        columns: the column that holds the text, and the characters of CSV. Other columns are kept as they are.
        folder: a new folder, or the finished one of the same call.
        settings: the filters.

    Returns:
        The facts of the manifest: counts by filter and reason, alerts, and examples of duplicates.

    Raises:
        HeirloomError: a source cannot be read or has no text, a filter lacks something, or the folder holds something
            else.
    """
    if folder.exists() and not (folder / MANIFEST).exists():
        raise HeirloomError(f"{folder} exists and is not what `heirloom curate` writes; name another folder with --out")
    if Path(source).resolve() in [Path(reference).resolve() for reference in references]:
        raise HeirloomError(
            f"--reference must differ from the source, {source}; duplicates within the source are dropped anyway"
        )
    settings = settings.resolve_auto()
    _check_requirements(settings, references)
    with contextlib.ExitStack() as stack:
        with progress(folder.name, "read"):
            texts = _read(source, columns)
            scratch, is_finished = folder.with_name(f".{folder.name}.against"), (folder / MANIFEST).exists()
            reference = stack.enter_context(
                load_reference(references, columns, settings, scratch, hash_only=is_finished)
            )
        artifact = Artifact(
            folder,
            {
                "source": source,
                "references": list(references),
                "text_column": columns.text,
                **_changed(columns),
                "source_hash": texts.content_hash,
                "reference_hash": reference.content_hash,
                "curate": settings.model_dump(mode="json"),
                **({"user_code": hashes} if (hashes := settings.user_code_hashes()) else {}),
            },
        )
        if not artifact.exists():
            with artifact.draft() as draft:
                _write_decisions(draft, folder.name, texts, reference, settings)
                _finish(draft, texts, reference, settings)
    return cast("CurateFacts", read_manifest(folder)["facts"])


@dataclass(frozen=True, kw_only=True)
class _SourceTexts:
    """All texts of the source: the readable ones with their locations, and a decision against each unreadable one."""

    records: RecordSet
    files: pa.Array
    row_numbers: pa.Array
    messages: pa.Array
    tools: pa.Array
    unreadable: pa.Table
    content_hash: str
    source: str
    columns: Columns


def _changed(columns: Columns) -> dict[str, object]:
    """Return how the source is read, where that is not the default."""
    names = ("max_length", "delimiter", "quote", "escape")
    return {name: getattr(columns, name) for name in names if getattr(columns, name) != getattr(Columns(), name)}


def _check_requirements(settings: CurateSettings, references: Sequence[str]) -> None:
    """Fail before an hour of work if a filter lacks reference texts, a run, or a package."""
    filters = settings.build_filters()
    for each in filters:
        if "metadata" in each.needs:
            raise HeirloomError(
                f"The {each.name} filter needs prompts, sources or log-probabilities, which only candidates of a run "
                "have"
            )
        if not references and {"protected", "human_train", "human_index"} & {*each.needs}:
            raise HeirloomError(f"The {each.name} filter compares with known texts; name them with --reference")
    for _ in run_filters(filters, EMPTY_RECORDS, FilterContext(embed=lambda records: _embed(records, settings))):
        pass


def _read(source: str, columns: Columns) -> _SourceTexts:
    content = hashlib.sha256()
    texts = list(read_texts([source], columns, content))
    readable = [text for text in texts if not text.reason]
    unreadable = [text for text in texts if text.reason]
    failures = RecordSet([text.id for text in unreadable], [""] * len(unreadable), [0] * len(unreadable))
    reasons = FilterResult(reason=[text.reason for text in unreadable])
    return _SourceTexts(
        records=RecordSet([text.id for text in readable], [text.text for text in readable], [0] * len(readable)),
        files=pa.array([text.file for text in readable], pa.string()),
        row_numbers=pa.array([text.row_number for text in readable], pa.int64()),
        messages=pa.array([text.messages for text in readable], pa.string()),
        tools=pa.array([text.tools for text in readable], pa.string()),
        unreadable=to_stored_decisions(decision_table(_READ, failures, reasons)),
        content_hash=hex_digest(content),
        source=source,
        columns=columns,
    )


def _write_decisions(
    draft: Draft, name: str, texts: _SourceTexts, reference: ReferenceTexts, settings: CurateSettings
) -> None:
    """Write one part per filter, after the part of the unreadable texts; finished parts are not written again."""
    if not draft.num_parts():
        draft.write_part(texts.unreadable)
    num_done = draft.num_parts() - 1
    records = texts.records
    if num_done:
        records = records.exclude(dropped_ids(draft.read(DECISIONS)).to_pylist())
    context = FilterContext(
        human_train=reference.records,
        protected=reference.records,
        survivors=reference.records,
        references=reference.records,
        human_index=reference.index,
        survivor_index=reference.index,
        embed=lambda some: _embed(some, settings),
        seed=int(texts.content_hash[:8], 16),
    )
    filters = settings.build_filters()[num_done:]
    tables = run_filters(filters, records, context)
    for number, each in enumerate(filters, num_done + 1):
        with progress(name, each.name):
            draft.write_part(to_stored_decisions(next(tables)), number)


def _embed(records: RecordSet, settings: CurateSettings) -> Vectors:
    return load_encoder(settings.encoder, settings.embedding).encode(records.text_list)


def _finish(draft: Draft, texts: _SourceTexts, reference: ReferenceTexts, settings: CurateSettings) -> None:
    """Write the kept texts and all decisions in one file each, and the summary as facts."""
    # The generation of a representative is meaningless without a run.
    decisions = draft.read(DECISIONS).drop_columns("duplicate_of_generation")
    dropped = dropped_ids(decisions).cast(pa.large_string())
    rows = np.flatnonzero(pc.invert(pc.is_in(texts.records.ids, value_set=dropped)))
    kept = texts.records.take(rows)
    written = kept.text_list
    if "pii" in settings.filters and settings.pii.action == "mask":
        written = [mask_pii(text, settings.pii) for text in kept.text_list]
    masked = pa.array([before != after for before, after in zip(kept.text_list, written, strict=True)], pa.bool_())
    places = [column.take(rows) for column in (texts.files, texts.row_numbers)]
    # The messages of a text that was masked are not: they would give away what was.
    chats = [pc.if_else(masked, None, column.take(rows)) for column in (texts.messages, texts.tools)]
    others = _other_columns(texts, places[0], places[1], settings)
    table = pa.table([kept.ids.cast(pa.string()), written, *places], schema=KEPT_SCHEMA)
    for name, values in zip(others.names, others.values, strict=True):
        table = table.append_column(name, values)
    for (name, _), values in zip(CONVERSATION, chats, strict=True):
        # Where the messages are in a column that is not the text, that column is kept as it is.
        if len(values) > values.null_count and name not in table.column_names:
            table = table.append_column(name, values)
    write_parquet(table, draft.folder / "kept.parquet")
    write_parquet(decisions, draft.folder / "decisions.parquet")
    for part in draft.folder.glob("part-*.parquet"):
        part.unlink()
    filter_names = [_READ, *(each.name for each in settings.build_filters())]
    alerts = find_filter_rate_alerts(_filter_rates(texts, decisions), {})
    draft.rows = len(kept)
    draft.facts = {
        "texts": len(texts.records) + len(texts.unreadable),
        "kept": len(kept),
        "other_columns": dict(zip(others.names, others.original_names, strict=True)),
        "unmasked_columns": list(others.unmasked_names),
        "masked": pc.sum(masked).as_py() or 0,
        "truncated": _count_truncated(texts.records, settings),
        "equal_shingles": count_equal_shingles(decisions) if settings.minhash.normalization == "text" else 0,
        "dropped": _count_dropped(decisions, filter_names, len(texts.records)),
        "filter_rate_alerts": [asdict(alert) for alert in alerts],
        "examples": _find_examples(decisions, texts, reference),
    }


def _count_truncated(records: RecordSet, settings: CurateSettings) -> int:
    """Return the number of texts of which filters compared only the beginning, since the encoder reads no more."""
    if not any("embeddings" in each.needs for each in settings.build_filters()):
        return 0
    return load_encoder(settings.encoder, settings.embedding).count_truncated(records.text_list)


@dataclass(frozen=True, kw_only=True)
class _OtherColumns:
    """Columns of the source besides the text, for the texts that are kept."""

    names: Sequence[str]
    """Names in `kept.parquet`."""
    original_names: Sequence[str]
    values: Sequence[pa.ChunkedArray]
    unmasked_names: Sequence[str]
    """Columns that are left out, since personal data in them cannot be masked."""


def _other_columns(
    texts: _SourceTexts, files: pa.Array, row_numbers: pa.Array, settings: CurateSettings
) -> _OtherColumns:
    names = {path: file for file, path in source_paths(texts.source).items()}
    rows: dict[str, list[int]] = {}
    for path, row in zip(files.to_pylist(), row_numbers.to_pylist(), strict=True):
        rows.setdefault(names.get(path, path.removeprefix(f"{texts.source}/")), []).append(row)
    numbers = {name: np.array(of_file, np.int64) for name, of_file in rows.items()}
    table = read_other_columns(texts.source, texts.columns, numbers)
    if not table[ROW].combine_chunks().equals(pa.array(row_numbers)):
        raise HeirloomError(f"{texts.source} has changed while it was read. Run the command again.")
    kept: dict[str, tuple[str, pa.ChunkedArray]] = {}
    unmasked = []
    is_masking = "pii" in settings.filters and settings.pii.action == "mask"
    for original in table.column_names:
        values = table[original]
        if original == ROW:
            continue
        if is_masking and pa.types.is_nested(values.type):
            unmasked.append(original)
            continue
        if is_masking and values.type in _TEXT_TYPES:
            masked = [value and mask_pii(value, settings.pii) for value in values.to_pylist()]
            values = pa.chunked_array([pa.array(masked, values.type)])
        name = original
        while name in KEPT_SCHEMA.names or name in kept:
            name = f"original_{name}"
        kept[name] = (original, values)
    return _OtherColumns(
        names=list(kept),
        original_names=[original for original, _ in kept.values()],
        values=[values for _, values in kept.values()],
        unmasked_names=unmasked,
    )


_TEXT_TYPES = (pa.string(), pa.large_string(), pa.json_(pa.string()))


def _count_dropped(decisions: pa.Table, filter_names: Sequence[str], num_readable: int) -> list[DropCount]:
    """How many texts each filter saw, and dropped for each reason; one line of 0 for a filter that dropped none."""
    counts = decisions.group_by(["filter", "kept", "reason"]).aggregate([([], "count_all")]).to_pylist()
    num_seen = {name: sum(row["count_all"] for row in counts if row["filter"] == name) for name in filter_names}
    num_seen[_READ] += num_readable
    lines: list[DropCount] = [
        {"filter": row["filter"], "reason": row["reason"], "dropped": row["count_all"], "of": num_seen[row["filter"]]}
        for row in counts
        if not row["kept"]
    ]
    with_drops = {line["filter"] for line in lines}
    lines += [
        {"filter": name, "reason": "", "dropped": 0, "of": num_seen[name]}
        for name in filter_names[1:]
        if name not in with_drops
    ]
    return sorted(lines, key=lambda line: (filter_names.index(line["filter"]), -line["dropped"], line["reason"]))


def _filter_rates(texts: _SourceTexts, decisions: pa.Table) -> FilterRates:
    """The share of each file that each filter dropped."""
    records = pa.table({"id": texts.records.ids.cast(pa.string()), "source": texts.files})
    return count_filter_rates(records, decisions)


def _find_examples(decisions: pa.Table, texts: _SourceTexts, reference: ReferenceTexts) -> list[DuplicateExample]:
    """For each duplicate filter the least similar pairs: a threshold that is too low shows there first."""
    duplicates = decisions.filter(pc.is_valid(decisions["duplicate_of"]))
    duplicates = duplicates.sort_by([("score", "ascending"), ("id", "ascending")])
    pairs: list[dict[str, Any]] = []
    for name in dict.fromkeys(decisions["filter"].to_pylist()):
        pairs += duplicates.filter(pc.equal(duplicates["filter"], name))[:_NUM_EXAMPLES].to_pylist()
    ids = {pair[key] for pair in pairs for key in ("id", "duplicate_of")}
    rows = np.flatnonzero(pc.is_in(texts.records.ids, value_set=pa.array(sorted(ids), pa.large_string())))
    shown = texts.records.take(rows)
    contents = reference.lookup(ids) | dict(zip(shown.ids.to_pylist(), shown.text_list, strict=True))
    return [
        {
            "filter": pair["filter"],
            "similarity": pair["score"],
            "id": pair["id"],
            "duplicate_of": pair["duplicate_of"],
            "text": _shorten(contents.get(pair["id"], "")),
            "duplicate_of_text": _shorten(contents.get(pair["duplicate_of"], "")),
        }
        for pair in pairs
    ]


def _shorten(text: str) -> str:
    return " ".join(text.split())[:_EXAMPLE_CHARACTERS]
