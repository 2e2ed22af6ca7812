import pytest
from prefect.context import FlowRunContext, TaskRunContext

from tasks.orchestration.prefect import (
    ephemeral_server,
    flow,
    has_persistent_server,
    in_flow_run,
    task,
    without_prefect,
)


@task
def worn_as() -> str | None:
    """The Prefect task that this runs as, or None."""
    context = TaskRunContext.get()
    return context.task.name if context else None


@flow(name="tell", flow_run_name="{who}")
def tell(who: str) -> tuple[str | None, str | None]:
    """The flow this runs as, and the task that a verb in it runs as."""
    context = FlowRunContext.get()
    return (context.flow.name if context and context.flow else None), worn_as()


@flow(name="visible", flow_run_name="{who}")
def visible(who: str) -> bool:
    """Whether somebody could look at this flow run."""
    assert who
    return has_persistent_server()


@task
def fail() -> None:
    raise ValueError("it was the verb")


def test_a_verb_outside_a_flow_run_is_the_plain_function() -> None:
    assert worn_as() is None


def test_nobody_watches_where_there_is_no_flow_run() -> None:
    assert not in_flow_run()


def test_a_story_without_its_coat_is_the_plain_function_and_so_are_its_verbs() -> None:
    with without_prefect():
        assert tell("anna") == (None, None)


def test_the_coat_is_back_on_after_the_block_however_it_ended() -> None:
    from tasks.orchestration.prefect import _bare

    def leave() -> None:
        with without_prefect():
            assert _bare.get()
            raise RuntimeError("out")

    with pytest.raises(RuntimeError, match="out"):
        leave()
    assert not _bare.get()


def test_blocks_without_coat_nest() -> None:
    with without_prefect():
        with without_prefect():
            pass
        assert tell("anna") == (None, None)


def test_a_verbs_error_is_its_own() -> None:
    with pytest.raises(ValueError, match="it was the verb"):
        fail()


def test_a_verb_and_a_story_keep_their_names_and_words() -> None:
    assert (worn_as.__name__, worn_as.__doc__) == ("worn_as", "The Prefect task that this runs as, or None.")
    assert tell.__name__ == "tell"


def test_a_story_shows_its_flow_for_deployments() -> None:
    assert (tell.flow.name, tell.flow.flow_run_name, tell.flow.persist_result) == ("tell", "{who}", False)


@pytest.mark.usefixtures("prefect")
def test_a_story_is_a_flow_run_and_its_verbs_are_task_runs() -> None:
    assert tell("anna") == ("tell", "worn_as")


@pytest.mark.usefixtures("prefect")
def test_a_story_can_be_seen_on_a_server_that_is_set_and_not_on_one_that_ends_with_it() -> None:
    assert visible("anna")
    with ephemeral_server():
        assert not visible("anna")
    with without_prefect():
        assert not visible("anna")
