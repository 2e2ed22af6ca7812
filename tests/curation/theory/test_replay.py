"""The theorems on replay, played: burn-in, the separation, witness protection and its negative control."""

import numpy as np
import pytest

from curation.theory.languages import negative_and_first, overlapping, positive, residues
from curation.theory.players import burn_in, in_the_limit, uniform, witness_protection
from curation.theory.replay import counting_then_echoing, enumerating, error_rounds, play, starving


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
