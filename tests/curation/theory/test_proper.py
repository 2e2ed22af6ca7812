"""Proper generation fails for the class of four in every case, and the test for it stays silent elsewhere."""

import pytest

from curation.theory.languages import four, overlapping, residues
from curation.theory.proper import legal, right_for_both, traps


@pytest.mark.parametrize("window", [3, 300])
def test_every_first_name_leads_into_a_trap(window: int) -> None:
    found = traps(four(), window)
    assert [trap.named.name for trap in found] == ["h1-", "h2-", "h1+", "h2+"]
    for trap in found:
        assert all(legal(trap.stream, target, trap.named) for target in trap.targets)
        assert not right_for_both(four(), trap, window)


def test_without_replay_no_such_stream_is_allowed() -> None:
    assert not any(legal(trap.stream, target, None) for trap in traps(four()) for target in trap.targets)


def test_the_stream_of_the_proof_is_found() -> None:
    assert traps(four())[0].stream[:6] == (0, -1, -2, 1, 2, 3)


def test_an_incomplete_stream_and_a_false_beginning_are_not_legal() -> None:
    trap = traps(four())[0]
    assert not legal([x for x in trap.stream if x != 7], trap.targets[0], trap.named)
    assert not legal((-2, *trap.stream), trap.targets[0], trap.named)


@pytest.mark.parametrize("part", [[0, 1, 2], [0, 2, 3], [0, 1], [2, 3]])
def test_a_class_without_one_of_the_four_is_not_called_hard(part: list[int]) -> None:
    assert not traps([four()[place] for place in part])


def test_other_classes_are_not_called_hard() -> None:
    assert not traps(residues())
    assert not traps(overlapping())
