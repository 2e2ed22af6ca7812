from pathlib import Path

import pyarrow as pa

from storage.artifacts.artifact import Artifact
from storage.artifacts.schemas import CANDIDATES, DECISIONS
from storage.artifacts.survivors import read_survivors, without_dropped


def _stored(folder: Path, *parts: pa.Table) -> Path:
    with Artifact(folder, {}).draft() as draft:
        for number, part in enumerate(parts):
            draft.write_part(part, number)
    return folder


def _candidates(*ids: str) -> pa.Table:
    return pa.Table.from_pylist([{"id": one, "text": f"text of {one}"} for one in ids], schema=CANDIDATES)


def _decisions(**kept: list[bool]) -> pa.Table:
    rows = [
        {"id": one, "filter": f"stage {place}", "kept": passed}
        for one, outcomes in kept.items()
        for place, passed in enumerate(outcomes)
    ]
    return pa.Table.from_pylist(rows, schema=DECISIONS)


def test_a_survivor_is_one_that_no_decision_dropped(tmp_path: Path) -> None:
    candidates = _stored(tmp_path / "candidates", _candidates("a", "b", "c", "d"))
    decisions = _stored(tmp_path / "decisions", _decisions(d=[True], c=[True, True], b=[True, False], a=[True, True]))
    found = read_survivors(candidates, decisions)
    assert found["id"].to_pylist() == ["a", "c", "d"]
    assert found["text"].to_pylist() == ["text of a", "text of c", "text of d"]
    assert found.schema.equals(CANDIDATES)


def test_records_that_no_decision_names_stay(tmp_path: Path) -> None:
    decisions = _stored(tmp_path / "excluded_records", _decisions(b=[False]))
    assert without_dropped(_candidates("a", "b", "c"), decisions)["id"].to_pylist() == ["a", "c"]


def test_survivors_of_several_parts_keep_their_order(tmp_path: Path) -> None:
    candidates = _stored(tmp_path / "candidates", _candidates("d", "a"), _candidates("c", "b"))
    decisions = _stored(tmp_path / "decisions", _decisions(a=[False]), _decisions(c=[False], d=[True], b=[True]))
    assert read_survivors(candidates, decisions)["id"].to_pylist() == ["d", "b"]


def test_without_decisions_every_candidate_survives(tmp_path: Path) -> None:
    candidates = _stored(tmp_path / "candidates", _candidates("a", "b"))
    assert read_survivors(candidates, _stored(tmp_path / "decisions", _decisions())).num_rows == 2


def test_all_dropped_leaves_a_table_with_its_columns(tmp_path: Path) -> None:
    candidates = _stored(tmp_path / "candidates", _candidates("a", "b"))
    found = read_survivors(candidates, _stored(tmp_path / "decisions", _decisions(a=[False], b=[True, False])))
    assert found.num_rows == 0
    assert found.schema.equals(CANDIDATES)
