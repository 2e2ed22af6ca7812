"""Create or update the automations of a Prefect server: `python -m deploy.automations`.

* A flow run without heartbeats is marked as crashed.
* A crashed flow run restarts, at most twice.
* A flow run whose review timed out restarts, and applies the default decision.
* A run that was stopped, by the gate or in a review, pauses its schedule.
* People are notified of a run that failed, that crashed for the last time or that no worker starts, and of a night
  without a new generation.
* Events of generations, gates, budgets and reviews are sent as well.

Notifications go to HEIRLOOM_NOTIFY_URL, if it is set: any address that Apprise supports, as mailto:// or slack://.

Automations are updated by name: after a change of a name, servers would also keep the automation of the old name.
"""

import os
from datetime import timedelta

from prefect.automations import (
    Automation,
    ChangeFlowRunState,
    EventTrigger,
    PauseDeployment,
    Posture,
    SendNotification,
)
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

from flows.orchestration.environment import HEARTBEAT_SECONDS
from flows.orchestration.local_server import require_server

SILENCE = timedelta(seconds=3 * HEARTBEAT_SECONDS)
"""Time without a heartbeat after which a flow run is marked as crashed; if shorter, healthy runs would start twice."""

RESUMES = 2
_MAX_COUNTED_RUNS = 100
_BLOCK = "heirloom-notify"
_HEIRLOOM_RUN = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.heirloom"}
_WITH_DEPLOYMENT = {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}
"""Excludes child flow runs, which have no deployment: they restart with their parent; no worker starts them alone."""
_NOTIFICATION_SUBJECTS = {
    "heirloom.generation.finished": "A generation is finished",
    "heirloom.review.requested": "A generation waits for a review",
    "heirloom.budget.spent": "A budget is spent",
    "heirloom.gate.warned": "The gate warns",
    "heirloom.gate.stopped": "The gate stopped a run",
    "heirloom.gate.rolled_back": "The gate rolled a generation back",
}
_LATE = timedelta(minutes=10)
"""Time that a late flow run may wait for a worker until people are notified."""
_EXPECTED_HOURS = "HEIRLOOM_EXPECT_GENERATION_HOURS"
"""Environment variable: hours after a generation of a schedule in which the next one is expected."""
_DEFAULT_EXPECTED_HOURS = 26.0
_SCHEDULED = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.auto-scheduled"}
_FLOW_RUN_BODY = "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
_NOTIFICATION_BODY = (
    "{{ event.resource.name }}\n{% for name, value in event.payload.items() %}{{ name }}: {{ value }}\n{% endfor %}"
)


def automations(notify: str | None, expected_hours: float = _DEFAULT_EXPECTED_HOURS) -> list[Automation]:
    """Return all automations.

    Args:
        notify: id of the notification block, None for no notifications.
        expected_hours: hours between two generations of a schedule, after which people are notified.
    """
    every_run = {"prefect.resource.id": "prefect.flow-run.*"}
    recovery = [
        Automation(
            name="heirloom: crash what shows no sign of life",
            description="A run that died with its worker stays Running. "
            f"Without heartbeat for {SILENCE.seconds} s it is set to Crashed.",
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.*"},
                match=every_run,
                match_related=_HEIRLOOM_RUN,
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=SILENCE,
            ),
            actions=[
                ChangeFlowRunState(state=StateType.CRASHED, message=f"no heartbeat for {SILENCE.seconds} s"),
            ],
        ),
        _restart(
            "heirloom: start a crashed run again",
            f"At most {RESUMES} times. The run resumes from its stored artifacts.",
            "prefect.flow-run.Crashed",
            {**every_run, "prefect.run-count": [str(count) for count in range(1, RESUMES + 1)]},
            "restart after a crash",
        ),
        _restart(
            "heirloom: go on where nobody has reviewed in time",
            "The server fails a run whose review timed out. Restarted, it applies the default decision of its recipe.",
            "prefect.flow-run.Failed",
            {**every_run, "prefect.state-message": "*never resumed*"},
            "restart after the timeout of a review",
        ),
        Automation(
            name="heirloom: pause the schedule of a stopped run",
            description="No generation is added until a person resumes the schedule.",
            trigger=EventTrigger(
                expect={"heirloom.generation.finished", "heirloom.review.decided"},
                match={"prefect.resource.id": "heirloom.run.*", "heirloom.verdict": "stop"},
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[PauseDeployment(source="inferred")],
        ),
    ]
    if not notify:
        return recovery
    events = [_notification(event, subject, notify) for event, subject in _NOTIFICATION_SUBJECTS.items()]
    return recovery + events + _alarms(notify, expected_hours)


def _alarms(notify: str, expected_hours: float) -> list[Automation]:
    """Return the automations that tell people what no event of a run can tell."""
    every_run = {"prefect.resource.id": "prefect.flow-run.*"}
    last_crashes = [str(count) for count in range(RESUMES + 1, _MAX_COUNTED_RUNS)]
    return [
        Automation(
            name="heirloom: tell of a failed run",
            trigger=_flow_run_trigger(
                {"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"},
                # A review without an answer in time is no failure: it starts the run again.
                {**every_run, "prefect.state-message": "!*never resumed*"},
            ),
            actions=[_message(notify, "A run failed: {{ flow_run.name }}", _FLOW_RUN_BODY)],
        ),
        Automation(
            name="heirloom: tell of a run that is not started again",
            trigger=_flow_run_trigger({"prefect.flow-run.Crashed"}, {**every_run, "prefect.run-count": last_crashes}),
            actions=[
                _message(notify, "A run crashed {{ flow_run.run_count }} times: {{ flow_run.name }}", _FLOW_RUN_BODY)
            ],
        ),
        Automation(
            name="heirloom: tell of a missing worker",
            trigger=EventTrigger(
                after={"prefect.flow-run.Late"},
                expect={"prefect.flow-run.*"},
                match=every_run,
                match_related=[_HEIRLOOM_RUN, _WITH_DEPLOYMENT],
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=_LATE,
            ),
            actions=[
                _message(notify, "No worker starts a run", f"A run has been late for {_LATE.seconds // 60} minutes.")
            ],
        ),
        Automation(
            name="heirloom: tell of a night without a generation",
            trigger=EventTrigger(
                after={"heirloom.generation.finished"},
                expect={"heirloom.generation.finished"},
                match_related=[_SCHEDULED, _WITH_DEPLOYMENT],
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(hours=expected_hours),
            ),
            actions=[
                _message(
                    notify,
                    "No new generation",
                    f"A run with a schedule has finished no generation for {expected_hours:g} hours. "
                    f"{_EXPECTED_HOURS} of bootstrap.sh changes this time.",
                )
            ],
        ),
    ]


def create_or_update(notify_url: str, expected_hours: float = _DEFAULT_EXPECTED_HOURS) -> list[str]:
    """Create or update every automation on the configured server, and return their names."""
    notify = None
    if notify_url:
        # Despite its name, this block passes any address to Apprise.
        notify = str(SlackWebhook(url=notify_url).save(_BLOCK, overwrite=True))  # type: ignore[arg-type]
    wanted = automations(notify, expected_hours)
    for automation in wanted:
        with get_client(sync_client=True) as client:
            existing = client.read_automations_by_name(automation.name)
        if existing:
            automation.id = existing[0].id
            automation.update()
        else:
            automation.create()
    return [automation.name for automation in wanted]


def _restart(name: str, description: str, event: str, match: dict[str, str | list[str]], message: str) -> Automation:
    """Return an automation that schedules a flow run of a deployment again after this event."""
    return Automation(
        name=name,
        description=description,
        trigger=_flow_run_trigger({event}, match),
        actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message=message)],
    )


def _flow_run_trigger(expect: set[str], match: dict[str, str | list[str]]) -> EventTrigger:
    """Return a trigger that fires at once on each of these events of a flow run of a deployment."""
    return EventTrigger(
        expect=expect,
        match=match,
        match_related=[_HEIRLOOM_RUN, _WITH_DEPLOYMENT],
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _message(notify: str, subject: str, body: str) -> SendNotification:
    return SendNotification(block_document_id=notify, subject=subject, body=body)  # type: ignore[arg-type]


def _notification(event: str, subject: str, notify: str) -> Automation:
    return Automation(
        name=f"heirloom: tell of {event}",
        trigger=EventTrigger(expect={event}, posture=Posture.Reactive, threshold=1, within=timedelta(0)),
        actions=[_message(notify, subject, _NOTIFICATION_BODY)],
    )


if __name__ == "__main__":
    require_server()
    url = os.environ.get("HEIRLOOM_NOTIFY_URL", "")
    hours = float(os.environ.get(_EXPECTED_HOURS, _DEFAULT_EXPECTED_HOURS))
    print("\n".join(create_or_update(url, hours)))
    if not url:
        print("no notifications: HEIRLOOM_NOTIFY_URL is not set")
