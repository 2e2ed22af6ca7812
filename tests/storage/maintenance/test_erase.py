import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from storage.artifacts.artifact import MANIFEST, read_manifest, read_table
from storage.artifacts.tombstones import add_tombstones, read_tombstones, to_string_array
from storage.maintenance.erase import PENDING_MANIFEST, _redact, find_locations, find_text_hashes, redact
from storage.maintenance.verify import verify
from storage.query.catalog import open_catalog
from storage.runs.fork import fork
from storage.runs.run import Attempt, BusyError, Run


@pytest.fixture
def parent(store: Path) -> str:
    """Id of a human record that prompted candidates."""
    query = "select p from (select unnest(parents) as p from candidates) order by p limit 1"
    return str(open_catalog(store).sql(query).fetchall()[0][0])


def _holding(store: Path, text: str) -> list[str]:
    """Tables that hold this text as it is stored."""
    import pyarrow.parquet as pq

    return [
        str(path.relative_to(store))
        for path in sorted(store.rglob("part-*.parquet"))
        if "text" in pq.read_schema(path).names
        if text in pq.ParquetFile(path).read(columns=["text"])["text"].to_pylist()
    ]


def _text(store: Path, identity: str) -> str:
    return str(open_catalog(store).sql(f"select text from records where id = '{identity}'").fetchall()[0][0])


def test_an_id_is_found_wherever_it_lies(store: Path, parent: str) -> None:
    (digest,) = find_text_hashes(store, [parent]).values()
    assert digest.startswith(parent.removeprefix("h-"))
    assert find_text_hashes(store, ["tiny/g001-0000000"]).keys() == {"tiny/g001-0000000"}
    with pytest.raises(ValueError, match="There is no record nothing"):
        find_text_hashes(store, [parent, "nothing"])


def test_an_id_that_means_two_texts_must_say_its_run(tmp_path: Path) -> None:
    for name, digest in (("one", "aa"), ("two", "bb"), ("fork of one", "aa")):
        run = Run(tmp_path, name.replace(" ", "-"))
        run.initialize({}, set(), {})
        with Attempt(run, 1).artifact("candidates", {}).draft() as draft:
            draft.write_part(pa.table({"id": ["g001-0000000"], "text_hash": [digest]}))
    with pytest.raises(ValueError, match=r"Choose one of: (fork-of-one|one)/g001-0000000, two/g001-0000000"):
        find_text_hashes(tmp_path, ["g001-0000000"])
    assert find_text_hashes(tmp_path, ["two/g001-0000000"]) == {"two/g001-0000000": "bb"}


def test_what_saw_a_text_and_what_it_prompted_is_traced_through_forks(store: Path, parent: str) -> None:
    source = Run(store, "tiny")
    fork(source, 1, "other", source.recipe())
    sights, descendants = find_locations(store, [*find_text_hashes(store, [parent]).values()])
    seen = {str(sight.folder.relative_to(store)): sight for sight in sights}
    assert seen["human/letters/snapshot=1/human_train"].records == 1
    assert seen["runs/tiny/generation=0/attempt=1/corpus"].trained_model
    assert seen["runs/other/generation=1/attempt=1/corpus"].records == 1
    prompted = open_catalog(store).sql(
        f"select run || '/' || id from candidates where list_contains(parents, '{parent}')"
    )
    assert descendants.keys() == {row[0] for row in prompted.fetchall()}


def test_an_erased_record_is_absent_from_every_view_and_from_what_is_read(store: Path, parent: str) -> None:
    before = open_catalog(store).sql("select count(*) from human_train").fetchall()[0][0]
    add_tombstones(store, find_text_hashes(store, [parent]), "asked to")
    catalog = open_catalog(store)
    for view in ("human_train", "records", "corpus", "corpus_all_attempts"):
        assert catalog.sql(f"select count(*) from {view} where id = '{parent}'").fetchall() == [(0,)]
    assert catalog.sql("select count(*) from human_train").fetchall() == [(before - 1,)]
    assert catalog.sql("select id, reason from tombstones").fetchall() == [(parent, "asked to")]
    assert parent not in read_table(store / "runs/tiny/generation=3/attempt=1/corpus", ["id"])["id"].to_pylist()


def test_rewriting_takes_the_text_out_of_every_table_and_the_store_stays_valid(store: Path, parent: str) -> None:
    source, text = Run(store, "tiny"), _text(store, parent)
    fork(source, 2, "other", source.recipe())
    assert len(_holding(store, text)) == 8
    folder = store / "runs/tiny/generation=3/attempt=1/corpus"
    before = read_manifest(folder)
    digests = [*find_text_hashes(store, [parent]).values()]
    add_tombstones(store, {parent: digests[0]}, "")
    # Eight that hold the text, and the sketch of it.
    assert redact(store, digests) == (9, 9)
    assert _holding(store, text) == []
    assert verify(store).errors == ()
    after = read_manifest(folder)
    assert after["fingerprint"] == before["fingerprint"]
    assert after["rows"] == before["rows"] - 1
    assert [(redaction["rows"], redaction["text_hashes"]) for redaction in after["redacted"]] == [(1, digests)]
    assert redact(store, digests) == (0, 0)
    assert {sight.redacted for sight in find_locations(store, digests)[0]} == {1}


def test_a_candidate_leaves_with_its_vector(store: Path) -> None:
    digests = find_text_hashes(store, ["tiny/g001-0000000"])
    add_tombstones(store, digests, "")
    redact(store, [*digests.values()])
    attempt = store / "runs/tiny/generation=1/attempt=1"
    for name in ("candidates", "embeddings"):
        assert "g001-0000000" not in read_table(attempt / name, ["id"])["id"].to_pylist()
    assert verify(store).errors == ()


def test_a_rewriting_that_was_cut_off_is_named_and_brought_to_its_end(store: Path, parent: str) -> None:
    digests, text = [*find_text_hashes(store, [parent]).values()], _text(store, parent)
    add_tombstones(store, {parent: digests[0]}, "")
    folder = store / "runs/tiny/generation=1/attempt=1/corpus"
    other = shutil.copytree(folder, store.parent / "other")
    _redact(folder, to_string_array(digests), to_string_array([]))
    # As a kill between the last hidden file and the first renaming leaves it.
    (folder / MANIFEST).rename(folder / PENDING_MANIFEST)
    (folder / "part-00000.parquet").rename(folder / ".part-00000.parquet")
    for name in (MANIFEST, "part-00000.parquet"):
        shutil.copyfile(other / name, folder / name)
    assert [fault for fault in verify(store).errors if "partly rewritten" in fault]
    redact(store, digests)
    assert verify(store).errors == ()
    assert _holding(store, text) == []


def test_drafts_that_may_hold_the_text_go_and_a_live_run_is_left_alone(store: Path, parent: str) -> None:
    draft = store / "runs/tiny/generation=3/attempt=1/.corpus.draft"
    draft.mkdir()
    digests = [*find_text_hashes(store, [parent]).values()]
    with Run(store, "tiny").lock(), pytest.raises(BusyError):
        redact(store, digests)
    assert draft.exists()
    assert not any(json.loads(path.read_text()).get("redacted") for path in store.rglob(MANIFEST))
    redact(store, digests)
    assert not draft.exists()
    assert read_tombstones(store) == []
