import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.operations.safety import Outcome, Reader, input_readers, store_readers, try_damaged
from storage.artifacts.tombstones import add_tombstones

_few = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
_randoms = st.integers(0, 2**32).map(random.Random)


def _no_traceback(name: str, reader: Reader, rng: random.Random) -> None:
    outcome = Outcome()
    try_damaged(name, reader, rng, outcome)
    assert outcome.tracebacks == []


@pytest.fixture(scope="module")
def readers_of_a_store(finished_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    store = Path(shutil.copytree(finished_store, tmp_path_factory.mktemp("fuzz") / "store"))
    add_tombstones(store, {"h-1": "0" * 32}, "withdrawn")
    return store_readers(store)


@pytest.mark.processes
@pytest.mark.parametrize("name", ["manifest", "journal", "run.json", "parquet", "tombstones", "seal"])
@_few
@given(rng=_randoms)
def test_a_damaged_file_of_a_store_is_no_traceback(
    name: str, rng: random.Random, readers_of_a_store: dict[str, Reader]
) -> None:
    _no_traceback(name, readers_of_a_store[name], rng)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.md", "a.parquet", "recipe", "site"])
@_few
@given(rng=_randoms)
def test_a_damaged_input_is_no_traceback(name: str, rng: random.Random, tmp_path: Path) -> None:
    _no_traceback(name, input_readers(tmp_path / "inputs")[name], rng)
