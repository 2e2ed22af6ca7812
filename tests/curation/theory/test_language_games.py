"""Language generation in the limit: languages, players, and games with replay."""

import numpy as np
import pytest

from curation.theory.languages import (
    first_integers,
    first_new,
    four,
    negative_and_first,
    overlapping,
    positive,
    residues,
)
from curation.theory.players import burn_in, in_the_limit, uniform, witness_protection, witnesses
from curation.theory.proper import legal, right_for_both, traps
from curation.theory.replay import counting_then_echoing, enumerating, error_rounds, play, starving


def test_integers_come_in_one_order_and_each_once() -> None:
    assert first_integers(7).tolist() == [0, 1, -1, 2, -2, 3, -3]
    assert sorted(first_integers(2001)) == list(range(-1000, 1001))


def test_the_first_new_member_is_found_however_far_it_is() -> None:
    assert first_new(positive(), []) == 1
    assert first_new(positive(), list(range(1, 400))) == 400
    assert first_new(negative_and_first(2), [1, 2]) == -1


def test_the_four_languages_are_those_of_the_theorem() -> None:
    numbers = np.arange(-5, 6)
    found = {one.name: set(numbers[one.holds(numbers)].tolist()) for one in four()}
    assert found["h1-"] == {-5, -4, -3, -2, -1, 0, 1}
    assert found["h2-"] == {-5, -4, -3, -2, -1, 0, 2}
    assert found["h1+"] == {-1, 0, 1, 2, 3, 4, 5}
    assert found["h2+"] == {-2, 0, 1, 2, 3, 4, 5}


def test_two_of_the_overlapping_languages_share_four_numbers_alone() -> None:
    even, odd, _ = overlapping()
    numbers = np.arange(-200, 201)
    assert numbers[even.holds(numbers) & odd.holds(numbers)].tolist() == [1, 2, 3, 4]


def test_residues_are_naturals() -> None:
    assert [[x in one for x in (-4, 0, 1, 2, 3)] for one in residues()] == [
        [False, True, True, True, False],
        [False, True, False, False, True],
        [False, True, True, False, False],
    ]


def test_burn_in_repeats_the_first_number_until_enough_were_seen() -> None:
    player = burn_in(uniform(overlapping()), 5)
    assert player([2, 1, 3, 4, 2], [2, 2, 2, 2]) == 2
    assert player([2, 1, 3, 4, 5], [2, 2, 2, 2]) == 7


def test_a_cautious_player_ignores_its_own_answers_as_evidence() -> None:
    languages = residues()
    # 2 was the player's own answer before it was shown: only without caution it rules the second and third language
    # out.
    assert in_the_limit(languages, sure=True, protect=False)([0, 2, 4], [2, 1]) != 6
    assert in_the_limit(languages, sure=False, protect=False)([0, 2, 4], [2, 1]) == 5


def test_a_protected_witness_is_never_answered() -> None:
    languages, shown, answers = residues(), [0], []
    for turn in range(1, 40):
        answers.append(witness_protection(languages)(shown, answers))
        shown.append(4 * turn)
    assert witnesses(languages, shown, answers) == [3, 5]
    assert not {3, 5} & set(answers)


def test_without_protection_the_witness_is_answered() -> None:
    languages, shown, answers = residues(), [0], []
    for turn in range(1, 40):
        answers.append(in_the_limit(languages, sure=True, protect=False)(shown, answers))
        shown.append(4 * turn)
    assert 5 in answers


def test_a_single_language_is_enumerated_in_order() -> None:
    assert witness_protection([positive()])([1, 2, 4], [3, 5]) == 6


def test_a_player_without_a_fitting_language_answers_nothing_new() -> None:
    assert in_the_limit(residues(), sure=False, protect=False)([0, 1, 2, 3], [1]) == 0


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


def test_an_adversary_that_invents_is_refused() -> None:
    with pytest.raises(ValueError, match="Round 1 shows -1, which is neither in h_inf nor an earlier answer"):
        play(uniform([positive()]), lambda *_: -1, positive(), 3)


def test_a_turn_records_where_its_number_came_from() -> None:
    turns = play(uniform([positive()]), counting_then_echoing(1), positive(), 3)
    assert [(turn.shown, turn.first_answered_in, turn.answer, turn.error) for turn in turns] == [
        (1, 0, 2, ""),
        (2, 1, 3, ""),
        (3, 2, 4, ""),
    ]


@pytest.mark.parametrize("target", range(3))
def test_with_burn_in_replay_costs_no_example_more(target: int) -> None:
    languages = overlapping()
    for seed in range(5):
        turns = play(burn_in(uniform(languages), 5), enumerating(languages[target], 2, seed), languages[target], 40)
        assert all(not turn.error for turn in turns if len({one.shown for one in turns[: turn.number]}) >= 5)
        assert all(turn.answer in languages[target] for turn in turns)


def test_without_burn_in_a_player_pollutes_its_own_evidence() -> None:
    languages = overlapping()
    turns = play(uniform(languages), enumerating(languages[1], 2, 0), languages[1], 40)
    assert all(turn.error for turn in turns[-20:])


@pytest.mark.parametrize("count", [1, 3, 10])
def test_no_player_keeps_a_promise_for_each_language(count: int) -> None:
    pair = [positive(), negative_and_first(count)]
    for player in (witness_protection(pair), in_the_limit(pair, sure=False, protect=False), uniform(pair)):
        games = [play(player, counting_then_echoing(count), target, count + 20)[count - 1 :] for target in pair]
        assert np.all([bool(one.error or other.error) for one, other in zip(*games, strict=True)])


@pytest.mark.slow
def test_witness_protection_errs_for_a_while_and_its_negative_control_for_ever() -> None:
    languages = residues()
    protected = error_rounds(play(witness_protection(languages), starving(), languages[2], 300))
    unprotected = error_rounds(play(in_the_limit(languages, sure=True, protect=False), starving(), languages[2], 300))
    assert max(protected) <= 30
    assert max(unprotected) > 285
    assert len(unprotected) > 10 * len(protected)


def test_trust_in_every_number_fails_where_sure_evidence_does_not() -> None:
    languages = [positive(), negative_and_first(1), negative_and_first(2)]
    games = [
        error_rounds(play(player, enumerating(languages[2], 2, 0), languages[2], 120))
        for player in (in_the_limit(languages, sure=False, protect=False), witness_protection(languages))
    ]
    assert len([number for number in games[0] if number > 4]) == 116
    assert max(games[1]) <= 4
