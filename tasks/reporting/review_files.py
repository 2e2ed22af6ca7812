"""Review candidates in any program: write a sample of a generation to a file, and read the judgements back."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from curation.verification.agreement import krippendorff_alpha
from heirloom.errors import HeirloomError
from heirloom.escaping import without_formula
from storage.files import atomic_file
from storage.query.catalog import open_catalog
from storage.runs.judgements import Judgement, Verdict, append_judgements, newest_by_reviewer, read_judgements
from storage.runs.run import Run

_FORMATS = (".parquet", ".csv", ".jsonl")
_KEY = ("generation", "attempt", "id")
_ANSWERS = ("verdict", "reviewer", "reason")
_MAX_NAMED = 5
"""Mistakes that an error lists; it counts the others."""

_SAMPLE = """
with outcomes as (
    select generation, attempt, id,
        coalesce(string_agg(filter || ': ' || reason, '; ') filter (not kept), '') as dropped,
        coalesce(min(filter) filter (not kept), '') as stratum
    from decisions where run = $run and generation = $generation group by all
)
select c.generation, c.attempt, c.id, o.dropped, c.prompt, c.text, c.messages
from candidates c join outcomes o using (generation, attempt, id)
where c.run = $run and c.generation = $generation
order by row_number() over (partition by o.stratum order by md5(c.id)), o.stratum = '', o.stratum, c.id
limit $size
"""
"""One candidate of each stratum in turn: those that each filter dropped, then the kept ones."""


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What an import did with the rows of a file."""

    recorded: int
    repeated: int
    """Judgements that were recorded before, unchanged."""
    blank: int
    """Rows without a verdict."""


def write_review_file(run: Run, file: Path, size: int, generation: int | None = None) -> int:
    """Write a stratified sample of the candidates of a generation with empty columns for the judgements.

    Candidates that each filter dropped and those that none dropped take turns, so that few judgements cover all.

    Args:
        run: an existing run.
        file: a new file; its ending names the format.
        size: largest number of candidates.
        generation: default: the newest generation with decisions.

    Returns:
        Number of candidates in the file.

    Raises:
        HeirloomError: the file exists, its ending is unknown, or there are no curated candidates.
    """
    _check_format(file)
    if file.exists():
        raise HeirloomError(f"{file} exists. Name another file, since it may contain judgements.")
    with open_catalog(run.root, [run.name]) as catalog:
        query = "select max(generation) from decisions where run = $run"
        [(newest,)] = catalog.execute(query, {"run": run.name}).fetchall()
        chosen = newest if generation is None else generation
        parameters = {"run": run.name, "generation": chosen, "size": size}
        sample = catalog.sql(_SAMPLE, params=parameters).to_arrow_table()
    if not sample.num_rows:
        where = "any generation" if chosen is None else f"generation {chosen}"
        raise HeirloomError(f"Run {run.name} has no curated candidates in {where}; generation 0 never has any.")
    for name in _ANSWERS:
        sample = sample.append_column(name, pa.array([""] * sample.num_rows))
    with atomic_file(file.absolute()) as hidden:
        match file.suffix:
            case ".parquet":
                pq.write_table(sample, hidden)
            case ".csv":
                pyarrow.csv.write_csv(_without_formulas(sample), hidden)
            case _:
                lines = [json.dumps(row, ensure_ascii=False) for row in sample.to_pylist()]
                Path(hidden).write_text("".join(f"{line}\n" for line in lines))
    return sample.num_rows


def import_review_file(run: Run, file: Path, reviewer: str = "") -> ImportResult:
    """Check every row of a file with judgements, and record them if all are valid.

    Args:
        run: an existing run.
        file: a file of `write_review_file` with verdicts; only ids, verdicts, reviewers and reasons are read.
        reviewer: name of the reviewer of rows that name none.

    Raises:
        HeirloomError: the file cannot be read or a row is invalid; the message names each mistake. Nothing is recorded.
    """
    rows = _read_rows(file)
    with open_catalog(run.root, [run.name]) as catalog:
        query = "select generation, attempt, id from candidates_all_attempts where run = $run"
        known = {tuple(row) for row in catalog.execute(query, {"run": run.name}).fetchall()}
    judged = [(number, row) for number, row in enumerate(rows, 1) if row["verdict"]]
    mistakes: list[str] = []
    seen = Counter[tuple[str, ...]]()
    judgements: list[Judgement] = []
    for number, row in judged:
        who = row["reviewer"] or reviewer
        key = tuple(row[name] for name in _KEY)
        seen[*key, who] += 1
        if mistake := _find_mistake(row, who, known, seen[*key, who]):
            mistakes.append(f"row {number}: {mistake}")
            continue
        verdict: Verdict = "accept" if row["verdict"] == "accept" else "reject"
        judgements.append(
            Judgement(
                generation=int(row["generation"]),
                attempt=int(row["attempt"]),
                id=row["id"],
                verdict=verdict,
                reviewer=who,
                reason=row["reason"],
                time=time.time(),
            )
        )
    if mistakes:
        rest = f"; and {len(mistakes) - _MAX_NAMED} more" if len(mistakes) > _MAX_NAMED else ""
        raise HeirloomError(f"Nothing was recorded from {file}: {'; '.join(mistakes[:_MAX_NAMED])}{rest}.")
    recorded = {_content(judgement) for judgement in newest_by_reviewer(read_judgements(run.folder))}
    new = [judgement for judgement in judgements if _content(judgement) not in recorded]
    append_judgements(run, new)
    return ImportResult(recorded=len(new), repeated=len(judgements) - len(new), blank=len(rows) - len(judged))


def agreement(run: Run) -> float:
    """Return Krippendorff's alpha of the newest judgements of all reviewers; NaN if it is not defined."""
    by_candidate = defaultdict(list)
    for judgement in newest_by_reviewer(read_judgements(run.folder)):
        by_candidate[judgement.generation, judgement.attempt, judgement.id].append(judgement.verdict)
    return krippendorff_alpha(by_candidate.values())


def _check_format(file: Path) -> None:
    if file.suffix not in _FORMATS:
        raise HeirloomError(f"{file} ends with {file.suffix or 'nothing'!r}; use one of {', '.join(_FORMATS)}.")


def _without_formulas(sample: pa.Table) -> pa.Table:
    """Return the sample with texts that a spreadsheet does not calculate; they are never read back."""
    for name in ("prompt", "text", "messages"):
        cells = [None if text is None else without_formula(text) for text in sample[name].to_pylist()]
        sample = sample.set_column(sample.schema.get_field_index(name), name, pa.array(cells, pa.string()))
    return sample


def _read_rows(file: Path) -> list[dict[str, str]]:
    """Return keys and answers of every row, as texts."""
    _check_format(file)
    if not file.exists():
        raise HeirloomError(f"There is no file {file}.")
    try:
        match file.suffix:
            case ".parquet":
                rows = pq.read_table(file).to_pylist()
            case ".csv":
                # A quoted text may span lines; every column is read as text, so that no id becomes a number.
                parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
                names = pyarrow.csv.read_csv(file, parse_options=parse).column_names
                convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
                rows = pyarrow.csv.read_csv(file, parse_options=parse, convert_options=convert).to_pylist()
            case _:
                rows = [json.loads(line) for line in file.read_text().split("\n") if line.strip()]
    except (ValueError, pa.ArrowException) as error:
        raise HeirloomError(f"Cannot read {file} as {file.suffix[1:]}: {error}") from error
    needed = {*_KEY, "verdict"}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or not needed <= row.keys():
            missing = ", ".join(sorted(needed - row.keys())) if isinstance(row, Mapping) else "all columns"
            raise HeirloomError(f"Row {number} of {file} lacks {missing}; write the file with --to and fill it.")
    return [{name: _text(row.get(name)) for name in (*_KEY, *_ANSWERS)} for row in rows]


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _find_mistake(row: Mapping[str, str], reviewer: str, known: set[tuple[object, ...]], times: int) -> str:
    """Return what is wrong with a judged row; empty if nothing is."""
    if row["verdict"] not in get_args(Verdict):
        return f"verdict {row['verdict']!r} is neither {' nor '.join(get_args(Verdict))}"
    is_number = row["generation"].isdecimal() and row["attempt"].isdecimal()
    if not is_number or (int(row["generation"]), int(row["attempt"]), row["id"]) not in known:
        return f"the run has no candidate {row['id']} in generation {row['generation']}, attempt {row['attempt']}"
    if not reviewer:
        return "no reviewer; fill the column or name one with --reviewer"
    return f"{reviewer} judges {row['id']} twice" if times > 1 else ""


def _content(judgement: Judgement) -> Sequence[object]:
    return (
        judgement.generation,
        judgement.attempt,
        judgement.id,
        judgement.verdict,
        judgement.reviewer,
        judgement.reason,
    )
