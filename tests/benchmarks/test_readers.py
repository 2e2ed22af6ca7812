from collections import Counter
from pathlib import Path

import pytest

from benchmarks.operations.readers import KINDS, REASONS, compare, write_file


@pytest.mark.slow
def test_readers_read_what_was_written_and_differ_from_others_only_for_stated_reasons(tmp_path: Path) -> None:
    faults: list[str] = []
    classes: Counter[str] = Counter()
    num_intact = num_intact_here = 0
    equal: Counter[str] = Counter()
    for number in range(200):
        file = write_file(tmp_path, number)
        comparisons = compare(file)
        for name, comparison in comparisons.items():
            faults += [f"{file.path.name}, {name}: {fault}" for fault in comparison.faults]
            classes += comparison.classes
            equal[file.kind] += comparison.num_equal
        num_intact += comparisons["DuckDB"].num_intact
        num_intact_here += comparisons["DuckDB"].num_intact_here
    assert faults == []
    assert set(classes) <= set(REASONS)
    assert min(equal[kind] for kind in KINDS) > 500
    # Rows around a damaged one are read, except those that an open quote cannot be distinguished from.
    assert num_intact_here > 0.9 * num_intact > 100


def test_a_generated_file_follows_from_its_number(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    for number in range(12):
        first, second = (write_file(tmp_path / folder, number) for folder in ("a", "b"))
        assert first.path.read_bytes() == second.path.read_bytes()
