"""What the server does by itself, created or brought up to date by name: `python -m deploy.automations`.

A run whose signs of life end is crashed, a crashed run starts again at most twice, one that nobody has reviewed in time
goes on, a stopped gate pauses its schedule, and people are told. HEIRLOOM_NOTIFY_URL says whom: any address that Apprise knows, as mailto:// or slack://.
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
"""How long without a sign of life a run counts as living. Any shorter, and healthy runs would be started twice."""

RESUMES = 2
_BLOCK = "heirloom-notify"
_OURS = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.heirloom"}
_DEPLOYED = {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}
"""A child run has none: it starts again with its parent, and by itself nobody would pick it up."""
_TOLD = {
    "heirloom.generation.finished": "A generation is finished",
    "heirloom.review.requested": "A generation waits for a review",
    "heirloom.budget.spent": "A budget is spent",
    "heirloom.gate.warned": "The gate warns",
    "heirloom.gate.stopped": "The gate stopped a run",
    "heirloom.gate.rolled_back": "The gate rolled a generation back",
}
_BODY = "{{ event.resource.name }}\n{% for name, value in event.payload.items() %}{{ name }}: {{ value }}\n{% endfor %}"


def automations(notify: str | None) -> list[Automation]:
    """All of them; `notify` is the id of the block that tells people, None where nobody is to be told."""
    every_run = {"prefect.resource.id": "prefect.flow-run.*"}
    healing = [
        Automation(
            name="heirloom: crash what shows no sign of life",
            description=f"A run whose worker died with it stays Running; after {SILENCE.seconds} s of silence it is Crashed.",
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.*"},
                match=every_run,
                match_related=_OURS,
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=SILENCE,
            ),
            actions=[
                ChangeFlowRunState(state=StateType.CRASHED, message=f"no sign of life for {SILENCE.seconds} s"),
            ],
        ),
        _again(
            "heirloom: start a crashed run again",
            f"At most {RESUMES} times; it goes on from what is stored, and makes nothing twice.",
            "prefect.flow-run.Crashed",
            {**every_run, "prefect.run-count": [str(count) for count in range(1, RESUMES + 1)]},
            "starts again after a crash",
        ),
        _again(
            "heirloom: go on where nobody has reviewed in time",
            "The server fails such a run; started again it takes the default that its recipe states.",
            "prefect.flow-run.Failed",
            {**every_run, "prefect.state-message": "*never resumed*"},
            "nobody has reviewed in time",
        ),
        Automation(
            name="heirloom: pause the schedule of a stopped run",
            description="Nothing more is made until somebody has looked and resumed the schedule.",
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
    return healing + ([_telling(event, subject, notify) for event, subject in _TOLD.items()] if notify else [])


def establish(notify_url: str) -> list[str]:
    """Create or update every automation on the server that is set; returns their names."""
    notify = None
    if notify_url:
        # Whatever it is named after, this block hands any address to Apprise.
        notify = str(SlackWebhook(url=notify_url).save(_BLOCK, overwrite=True))  # type: ignore[arg-type]
    wanted = automations(notify)
    for automation in wanted:
        with get_client(sync_client=True) as client:
            there = client.read_automations_by_name(automation.name)
        if there:
            automation.id = there[0].id
            automation.update()
        else:
            automation.create()
    return [automation.name for automation in wanted]


def _again(name: str, description: str, event: str, match: dict[str, str | list[str]], message: str) -> Automation:
    """Schedule a run of a deployment once more when this has happened to it."""
    return Automation(
        name=name,
        description=description,
        trigger=EventTrigger(
            expect={event},
            match=match,
            match_related=[_OURS, _DEPLOYED],
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message=message)],
    )


def _telling(event: str, subject: str, notify: str) -> Automation:
    return Automation(
        name=f"heirloom: tell of {event}",
        trigger=EventTrigger(expect={event}, posture=Posture.Reactive, threshold=1, within=timedelta(0)),
        actions=[SendNotification(block_document_id=notify, subject=subject, body=_BODY)],  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    require_server()
    url = os.environ.get("HEIRLOOM_NOTIFY_URL", "")
    print("\n".join(establish(url)))
    if not url:
        print("nobody is told of anything: HEIRLOOM_NOTIFY_URL is not set")
