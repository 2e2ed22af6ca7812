"""Cron schedules by the clock of a place."""

from zoneinfo import ZoneInfo

import pytest

from flows.orchestration.schedules import cron_schedule, next_time
from heirloom.errors import HeirloomError


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_two_at_night_is_two_by_the_clock_of_the_zone(zone: str) -> None:
    schedule = cron_schedule("0 2 * * *", zone)
    first = next_time(schedule)
    assert (first.hour, first.minute, schedule.timezone) == (2, 0, zone)
    assert first.astimezone(ZoneInfo(zone)).hour == 2


@pytest.mark.parametrize(
    ("cron", "zone", "reason"),
    [
        ("0 2 30 2 *", "UTC", "would never start a run"),
        ("61 * * * *", "UTC", "Invalid cron string"),
        ("at night", "UTC", "Invalid cron string"),
        ("0 2 * * *", "Mars/Olympus", "Invalid timezone: 'Mars/Olympus'"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(cron: str, zone: str, reason: str) -> None:
    with pytest.raises(HeirloomError, match=reason):
        cron_schedule(cron, zone)
