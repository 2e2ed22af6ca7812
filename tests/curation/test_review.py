"""What may be decided about a generation."""

import pytest
from pydantic import ValidationError

from curation.gates import ACTIONS
from curation.review import REVIEWED_ACTIONS, ReviewSettings


def test_no_action_is_reviewed_by_default() -> None:
    assert REVIEWED_ACTIONS[ReviewSettings().when] == ()


def test_only_verdicts_that_would_be_accepted_are_asked_about() -> None:
    assert {action for asked in REVIEWED_ACTIONS.values() for action in asked} == set(ACTIONS[:2])


def test_silence_cannot_mean_to_make_a_generation_again() -> None:
    # It would be made again, asked about and made again for as long as no review comes.
    with pytest.raises(ValidationError, match="'accept' or 'stop'"):
        ReviewSettings.model_validate({"default_decision": "redo"})
