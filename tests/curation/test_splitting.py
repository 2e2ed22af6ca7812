import math

import pytest
from pydantic import ValidationError

from curation.splitting import IngestSettings, is_held_out


def test_the_held_out_groups_never_change() -> None:
    assert [group for group in "abcdefghijklmnop" if is_held_out(group, 0.15)] == ["d", "f", "j", "n", "p"]


@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.5])
def test_the_held_out_fraction_is_the_requested_one(fraction: float) -> None:
    num_heldout = sum(is_held_out(f"group {number}", fraction) for number in range(4000))
    assert abs(num_heldout - 4000 * fraction) <= 4 * math.sqrt(4000 * fraction * (1 - fraction))


def test_a_larger_fraction_holds_out_a_superset() -> None:
    groups = [f"group {number}" for number in range(500)]
    small, large = ({group for group in groups if is_held_out(group, fraction)} for fraction in (0.1, 0.3))
    assert small < large


def test_a_fraction_of_zero_holds_out_nothing_and_one_everything() -> None:
    assert not any(is_held_out(f"group {number}", 0.0) for number in range(100))
    assert all(is_held_out(f"group {number}", 1.0) for number in range(100))


def test_a_group_name_can_contain_a_lone_surrogate() -> None:
    assert is_held_out("\ud800", 1.0)


@pytest.mark.parametrize(
    "invalid",
    [
        {"heldout_fraction": 0},
        {"heldout_fraction": 1},
        {"split_by": "author"},
        {"max_train_records": 0},
        {"max_heldout_records": 0},
        {"dedup": {"method": "semantic"}},
        {"dedup": {"minhash": {"threshold": 2}}},
        {"columns": "text"},
    ],
)
def test_invalid_settings_are_refused(invalid: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IngestSettings.model_validate(invalid)
