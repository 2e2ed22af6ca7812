"""Players say what the algorithms say, in small cases that can be followed by hand."""

from curation.theory.languages import overlapping, positive, residues
from curation.theory.players import burn_in, in_the_limit, uniform, witness_protection, witnesses


def test_burn_in_repeats_the_first_number_until_enough_were_seen() -> None:
    player = burn_in(uniform(overlapping()), 5)
    assert player([2, 1, 3, 4, 2], [2, 2, 2, 2]) == 2
    assert player([2, 1, 3, 4, 5], [2, 2, 2, 2]) == 7


def test_a_cautious_player_ignores_its_own_answers_as_evidence() -> None:
    languages = residues()
    # 2 was the player's own answer before it was shown: only without caution it rules the second and third language out.
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
