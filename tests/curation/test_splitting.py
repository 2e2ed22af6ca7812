import math

import pytest
from pydantic import ValidationError

from curation.splitting import IngestSettings, is_held_out


def test_these_groups_are_held_out_for_ever() -> None:
    assert [group for group in "abcdefghijklmnop" if is_held_out(group, 0.15)] == ["d", "f", "j", "n", "p"]


@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.5])
def test_the_held_out_share_is_the_one_asked_for(fraction: float) -> None:
    found = sum(is_held_out(f"group {number}", fraction) for number in range(4000))
    assert abs(found - 4000 * fraction) <= 4 * math.sqrt(4000 * fraction * (1 - fraction))


def test_what_is_held_out_stays_so_when_more_is() -> None:
    groups = [f"group {number}" for number in range(500)]
    fewer, more = ({group for group in groups if is_held_out(group, fraction)} for fraction in (0.1, 0.3))
    assert fewer < more


def test_all_or_none_at_the_ends() -> None:
    assert not any(is_held_out(f"group {number}", 0.0) for number in range(100))
    assert all(is_held_out(f"group {number}", 1.0) for number in range(100))


def test_a_lone_surrogate_can_name_a_group() -> None:
    assert is_held_out("\ud800", 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"heldout_fraction": 0},
        {"heldout_fraction": 1},
        {"split_by": "author"},
        {"max_train_records": 0},
        {"max_heldout_records": 0},
        {"near_duplicates": {"threshold": 2}},
        {"columns": "text"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IngestSettings.model_validate(wrong)
