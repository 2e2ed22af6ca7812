"""Review by files: a sample is written, judged in any program, checked, recorded, and queried."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from flows.cli.app import app
from heirloom.errors import HeirloomError
from storage.maintenance.verify import verify
from storage.query.catalog import open_catalog
from storage.runs.judgements import read_judgements
from storage.runs.run import Run
from tasks.reporting.review_files import ImportResult, agreement, import_review_file, write_review_file

Rows = list[dict[str, object]]
_ENDINGS = pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])


def _read(file: Path) -> Rows:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    if file.suffix == ".csv":
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        return pyarrow.csv.read_csv(file, parse_options=options).to_pylist()
    return [json.loads(line) for line in file.read_text().split("\n") if line]


def _write(file: Path, rows: Rows) -> Path:
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        pyarrow.csv.write_csv(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return file


def _judged(run: Run, file: Path, judge: Callable[[int], str], size: int = 12) -> Path:
    write_review_file(run, file, size)
    return _write(file, [row | {"verdict": judge(place)} for place, row in enumerate(_read(file))])


@pytest.fixture
def run(store: Path) -> Run:
    return Run(store, "tiny")


@_ENDINGS
def test_judgements_in_every_format_become_a_table(run: Run, tmp_path: Path, ending: str) -> None:
    file = _judged(run, tmp_path / f"sample.{ending}", lambda place: ("accept", "reject", "")[place % 3])
    assert import_review_file(run, file, "ada") == ImportResult(recorded=8, repeated=0, blank=4)
    with open_catalog(run.root) as catalog:
        found = catalog.execute(
            "select verdict, reviewer, count(*) from judgements join candidates using (run, generation, attempt, id) "
            "group by all order by 1"
        ).fetchall()
    assert found == [("accept", "ada", 4), ("reject", "ada", 4)]


@_ENDINGS
def test_the_same_file_twice_records_nothing_twice(run: Run, tmp_path: Path, ending: str) -> None:
    file = _judged(run, tmp_path / f"sample.{ending}", lambda _: "accept")
    import_review_file(run, file, "ada")
    assert import_review_file(run, file, "ada") == ImportResult(recorded=0, repeated=12, blank=0)
    assert len(read_judgements(run.folder)) == 12


def test_a_changed_judgement_counts_and_the_old_one_stays(run: Run, tmp_path: Path) -> None:
    for verdict in ("accept", "reject", "accept"):
        file = _judged(run, tmp_path / f"{verdict}.jsonl", lambda _, verdict=verdict: verdict, size=1)
        import_review_file(run, file, "ada")
        file.unlink()
    assert [judgement.verdict for judgement in read_judgements(run.folder)] == ["accept", "reject", "accept"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "good"}, "verdict 'good' is neither accept nor reject"),
        ({"id": "g009-0000000"}, "has no candidate g009-0000000 in generation 3, attempt 1"),
        ({"generation": "three"}, "in generation three, attempt 1"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_recorded(
    run: Run, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = _judged(run, tmp_path / "sample.jsonl", lambda _: "accept")
    rows = _read(file)
    rows[1] |= change
    with pytest.raises(HeirloomError, match="row 2: ") as error:
        import_review_file(run, _write(file, rows), "ada")
    assert message in str(error.value)
    assert read_judgements(run.folder) == []


def test_two_judgements_of_one_reviewer_about_one_candidate_are_rejected(run: Run, tmp_path: Path) -> None:
    file = _judged(run, tmp_path / "sample.jsonl", lambda _: "accept")
    rows = _read(file)
    with pytest.raises(HeirloomError, match=f"row 13: ada judges {rows[0]['id']} twice"):
        import_review_file(run, _write(file, [*rows, rows[0] | {"verdict": "reject"}]), "ada")


def test_a_row_without_a_reviewer_is_rejected(run: Run, tmp_path: Path) -> None:
    with pytest.raises(HeirloomError, match="no reviewer"):
        import_review_file(run, _judged(run, tmp_path / "sample.csv", lambda _: "accept"))


def test_many_mistakes_are_counted(run: Run, tmp_path: Path) -> None:
    with pytest.raises(HeirloomError, match=r"row 5: .*; and 7 more\."):
        import_review_file(run, _judged(run, tmp_path / "sample.csv", lambda _: "?"), "ada")


def test_a_file_without_the_columns_is_named(run: Run, tmp_path: Path) -> None:
    file = _write(tmp_path / "other.jsonl", [{"id": "g001-0000000"}])
    with pytest.raises(HeirloomError, match="lacks attempt, generation, verdict"):
        import_review_file(run, file, "ada")


def test_a_sample_shows_every_filter_that_dropped_something(run: Run, tmp_path: Path) -> None:
    write_review_file(run, tmp_path / "sample.jsonl", 12, generation=2)
    with open_catalog(run.root) as catalog:
        query = "select distinct filter from decisions where generation = 2 and not kept"
        dropping = {name for (name,) in catalog.execute(query).fetchall()}
    dropped = [str(row["dropped"]) for row in _read(tmp_path / "sample.jsonl")]
    assert dropping <= {reasons.partition(":")[0] for reasons in dropped}
    assert "" in dropped
    assert len(dropped) == 12


def test_an_existing_file_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sample.csv").write_text("judged")
    with pytest.raises(HeirloomError, match="exists"):
        write_review_file(run, tmp_path / "sample.csv", 5)


def test_agreement_of_two_reviewers_counts_their_newest_judgements(run: Run, tmp_path: Path) -> None:
    judges = {"ada": lambda place: "accept" if place % 2 else "reject", "bob": lambda _: "reject"}
    for reviewer, judge in judges.items():
        import_review_file(run, _judged(run, tmp_path / f"{reviewer}.csv", judge), reviewer)
    # Krippendorff's alpha: 12 records, 6 disagreements, 6 accept and 18 reject: 1 - 23 * 6 / (6 * 18).
    assert agreement(run) == pytest.approx(1 - 23 * 6 / (6 * 18))
    (tmp_path / "bob.csv").unlink()
    import_review_file(run, _judged(run, tmp_path / "bob.csv", judges["ada"]), "bob")
    assert agreement(run) == 1


def test_verify_names_a_damaged_line(run: Run, tmp_path: Path) -> None:
    import_review_file(run, _judged(run, tmp_path / "sample.csv", lambda _: "accept"), "ada")
    assert not [error for error in verify(run.root).errors if "judgement" in error]
    with (run.folder / "judgements.jsonl").open("a") as file:
        file.write("{\n")
    assert any("Line 13" in error and "is no judgement" in error for error in verify(run.root).errors)


def test_the_command_writes_and_reads_a_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sample.csv"
    arguments = ["review", "tiny", "--store", str(run.root)]
    app([*arguments, "--to", str(file), "--sample", "4"], standalone_mode=False)
    _write(file, [row | {"verdict": "accept"} for row in _read(file)])
    app([*arguments, "--from", str(file), "--reviewer", "ada"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "wrote 4 candidates" in printed
    assert "recorded 4 judgements; 0 were recorded before, 0 rows have none" in printed
    with pytest.raises(HeirloomError, match="either a file to write"):
        app(arguments, standalone_mode=False)
