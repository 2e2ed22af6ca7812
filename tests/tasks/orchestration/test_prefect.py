import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.orchestration.arguments import Constant
from tasks.orchestration.prefect import (
    _prefect_disabled,
    ephemeral_server,
    flow,
    has_persistent_server,
    in_flow_run,
    task,
    with_task_runner,
    without_prefect,
)


@task
def task_name() -> str | None:
    """Return the name of the Prefect task that this runs as, or None."""
    context = TaskRunContext.get()
    return context.task.name if context else None


@flow(name="name-flow", flow_run_name="{person}")
def flow_and_task_name(person: str) -> tuple[str | None, str | None]:
    """Return the name of the flow that this runs as, and of the task that it calls."""
    assert person
    context = FlowRunContext.get()
    return (context.flow.name if context and context.flow else None), task_name()


@flow(name="server-flow", flow_run_name="{person}")
def sees_persistent_server(person: str) -> bool:
    """Return whether the flow run is on a persistent server."""
    assert person
    return has_persistent_server()


@task
def fail() -> None:
    raise ValueError("raised in the task")


def test_a_task_outside_a_flow_run_is_a_plain_call() -> None:
    assert task_name() is None


def test_outside_a_flow_run_there_is_no_server() -> None:
    assert not in_flow_run()
    assert not has_persistent_server()


def test_without_prefect_a_flow_and_its_tasks_are_plain_calls() -> None:
    with without_prefect():
        assert flow_and_task_name("anna") == (None, None)


def test_prefect_is_enabled_again_after_an_error_in_the_block() -> None:
    def raise_in_block() -> None:
        with without_prefect():
            assert _prefect_disabled.get()
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        raise_in_block()
    assert not _prefect_disabled.get()


def test_blocks_without_prefect_nest() -> None:
    with without_prefect():
        with without_prefect():
            pass
        assert flow_and_task_name("anna") == (None, None)


def test_an_error_in_a_task_is_raised_unchanged() -> None:
    with pytest.raises(ValueError, match="raised in the task"):
        fail()


def test_decorated_functions_keep_their_names_and_docstrings() -> None:
    assert task_name.__name__ == "task_name"
    assert task_name.__doc__ == "Return the name of the Prefect task that this runs as, or None."
    assert flow_and_task_name.__name__ == "flow_and_task_name"


def test_the_prefect_flow_is_an_attribute_of_the_function() -> None:
    prefect_flow = flow_and_task_name.flow
    assert (prefect_flow.name, prefect_flow.flow_run_name, prefect_flow.persist_result) == (
        "name-flow",
        "{person}",
        False,
    )


@pytest.mark.usefixtures("prefect_server")
def test_a_flow_is_a_flow_run_and_its_tasks_are_task_runs() -> None:
    assert flow_and_task_name("anna") == ("name-flow", "task_name")


@pytest.mark.usefixtures("prefect_server")
def test_a_server_is_persistent_unless_it_is_ephemeral_or_prefect_is_disabled() -> None:
    assert sees_persistent_server("anna")
    with ephemeral_server():
        assert not sees_persistent_server("anna")
    with without_prefect():
        assert not sees_persistent_server("anna")


@flow(name="large-flow", flow_run_name="{name}", validate_parameters=False)
def recorded_parameters(name: str, recipe: dict[str, object], texts: list[str]) -> tuple[int, dict[str, object]]:
    """Return the number of texts that the flow received, and the parameters that the server has."""
    context = FlowRunContext.get()
    assert name and context and context.flow_run
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(context.flow_run.id)
    return len(texts), {"recipe": run.parameters["recipe"], "texts": run.parameters["texts"], "given": recipe}


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("runner", [None, ThreadPoolTaskRunner(max_workers=1)])
def test_a_flow_runs_with_parameters_that_the_server_refuses_and_records_the_small_ones(
    runner: ThreadPoolTaskRunner | None,
) -> None:
    personas = [f"a person number {number} who lives in a town by the river" for number in range(12_000)]
    given = {"seed": 3, "prompts": {"template_name": "persona", "attributes": {"persona": personas}}}
    call = with_task_runner(recorded_parameters, runner) if runner else recorded_parameters
    count, recorded = call("large", given, personas)
    assert count == 12_000
    assert recorded["given"] == given
    note = r"\(12,000 entries, \d\d\d,\d\d\d bytes, not recorded here\)"
    assert re.fullmatch(note, str(recorded["texts"]))
    prompts = {"template_name": "persona", "attributes": {"persona": recorded["texts"]}}
    assert recorded["recipe"] == {"seed": 3, "prompts": prompts}


@pytest.mark.parametrize("value", [{f"key {number}": "v" * 50 for number in range(40_000)}, ["x" * 300_000] * 3])
def test_recorded_parameters_are_bounded_whatever_their_shape(value: object) -> None:
    recorded = recorded_parameters.flow.serialize_parameters({"name": "large", "recipe": value})  # type: ignore[attr-defined]
    assert len(json.dumps(recorded)) < 300_000
    assert recorded["name"] == "large" or "not recorded" in recorded["name"]


class Visited(list[str]):
    """A list that counts how often its entries are looked at."""

    visits = 0

    def __iter__(self) -> Iterator[str]:
        type(self).visits += 1
        return super().__iter__()


@dataclass(frozen=True)
class Fixed(Constant):
    names: Visited


@task
def first_name(fixed: Fixed, names: list[str]) -> str:
    return fixed.names[0] + names[0]


@flow(name="constant-flow", flow_run_name="{name}", validate_parameters=False)
def first_names(name: str, fixed: Fixed, num_calls: int) -> list[str]:
    assert name
    return [first_name(fixed, names=["b"]) for _ in range(num_calls)]


@pytest.mark.usefixtures("prefect_server")
def test_prefect_does_not_look_inside_a_constant_argument() -> None:
    visits = []
    for num_calls in (0, 3):
        Visited.visits = 0
        assert first_names("anna", Fixed(Visited(["a"])), num_calls) == ["ab"] * num_calls
        visits.append(Visited.visits)
    assert visits[0] == visits[1]
