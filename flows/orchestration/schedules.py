"""Cron schedules in a time zone, checked before they are deployed."""

import asyncio
from datetime import UTC, datetime

from prefect.schedules import Cron, Schedule
from prefect.server.schemas.schedules import CronSchedule
from pydantic import ValidationError

from heirloom.errors import HeirloomError

_EXAMPLE = '--cron "0 2 * * *" --timezone America/New_York'


def cron_schedule(cron: str, timezone: str) -> Schedule:
    """Return a schedule by the clock of a time zone.

    Raises:
        HeirloomError: the fields are no cron schedule, none of its dates exists, or there is no such time zone.
    """
    try:
        schedule = Cron(cron, timezone=timezone)
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:  # that of pydantic too
        message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        reason = message.removeprefix("Value error, ").replace('"', "'")
        raise HeirloomError(f"{reason}. Write a schedule as `{_EXAMPLE}`.") from error
    next_time(schedule)
    return schedule


def next_time(schedule: Schedule) -> datetime:
    """Return the first time of a schedule from now on, in its time zone.

    Raises:
        HeirloomError: there is none, as for 30 February.
    """
    dates = CronSchedule(cron=schedule.cron or "", timezone=schedule.timezone)
    try:
        (first,) = asyncio.run(dates.get_dates(n=1, start=datetime.now(UTC)))
    except ValueError as error:  # croniter's error
        raise HeirloomError(f"The schedule `{schedule.cron}` has no date: it would never start a run.") from error
    return first
