"""Servers that misbehave in every way known here: nothing lost, nothing double, in order, and a clear end."""

import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from tasks.backends.inference.http_client import stream_responses
from tasks.backends.inference.http_protocol import ClientConfig
from tests.support.openai_server import Behavior, Reply, answering, echo
from tests.support.waiting import until


def _client_config(**changed: Any) -> ClientConfig:
    values = {
        "key": "",
        "initial_concurrency": 8,
        "max_concurrency": 32,
        "request_timeout_s": 60.0,
        "server_unavailable_timeout_s": 300.0,
        **changed,
    }
    return ClientConfig(**values)


def _requests(count: int) -> list[dict[str, Any]]:
    return [{"model": "tiny", "prompt": f"p{number}", "seed": number} for number in range(count)]


def _texts(servers: Sequence[str], count: int, **client_config: Any) -> list[str]:
    found = stream_responses(servers, "/v1/completions", _requests(count), _client_config(**client_config), _text)
    return [text for ready in found for text in ready]


def _text(answer: Any) -> str:
    text = answer["choices"][0]["text"]
    assert isinstance(text, str)
    return text


def _expected(count: int) -> list[str]:
    return [f" p{number} seed {number}" for number in range(count)]


def _once(trouble: Reply) -> Behavior:
    """Trouble for every fifth request the first time it is asked."""
    return lambda body, turn: trouble if body["seed"] % 5 == 0 and turn == 0 else echo(body)


@pytest.mark.processes
def test_answers_come_in_the_order_of_the_requests() -> None:
    rng = random.Random(0)
    with answering(lambda body, _: Reply(content=echo(body).content, seconds=rng.uniform(0, 0.02))) as talk:
        assert _texts([talk.address], 200) == _expected(200)
        assert len(talk.bodies) == 200


@pytest.mark.processes
def test_no_requests_have_no_answers() -> None:
    with answering() as talk:
        assert _texts([talk.address], 0) == []
        assert talk.bodies == []


@pytest.mark.processes
@pytest.mark.parametrize(
    "trouble",
    [
        Reply(500, {"error": {"message": "oh"}}),
        Reply(503, b""),
        Reply(429, {"error": "slow down"}),
        Reply(200, b"<html>not what you asked</html>"),
        Reply(200, b""),
        Reply(200, {"choices": []}),
        Reply(200, {"choices": [{"text": None}]}),
        Reply(200, {"choices": [{"text": "half a text"}]}, cut=True),
    ],
    ids=["500", "503", "429", "garbage", "nothing", "no choices", "no text", "cut off"],
)
def test_trouble_that_passes_costs_nothing_but_time(trouble: Reply) -> None:
    with answering(_once(trouble)) as talk:
        assert _texts([talk.address], 50) == _expected(50)
        assert len(talk.bodies) == 60


@pytest.mark.processes
def test_a_hanging_answer_is_asked_for_again() -> None:
    with answering(lambda body, turn: Reply(seconds=3) if body["seed"] == 3 and turn == 0 else echo(body)) as talk:
        assert _texts([talk.address], 20, request_timeout_s=0.5) == _expected(20)


@pytest.mark.processes
def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    asked: list[float] = []

    def busy(body: dict[str, Any], turn: int) -> Reply:
        asked.append(time.monotonic())
        return Reply(429, {}, {"Retry-After": "1"}) if turn == 0 else echo(body)

    with answering(busy) as talk:
        assert _texts([talk.address], 1) == _expected(1)
    assert asked[1] - asked[0] >= 1


@pytest.mark.processes
def test_a_server_that_can_take_few_at_a_time_soon_gets_few() -> None:
    lock, now = threading.Lock(), [0]

    def narrow(body: dict[str, Any], turn: int) -> Reply:
        with lock:
            now[0] += 1
            full = now[0] > 4
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return Reply(429, {}) if full else echo(body)

    with answering(narrow) as talk:
        assert _texts([talk.address], 150, initial_concurrency=32) == _expected(150)
        # Asked at full width all the time, most requests would be refused again and again.
        assert len(talk.bodies) < 400


@pytest.mark.processes
def test_no_more_than_allowed_are_in_flight() -> None:
    with answering(lambda body, _: Reply(content=echo(body).content, seconds=0.005)) as talk:
        assert _texts([talk.address], 300, initial_concurrency=4, max_concurrency=16) == _expected(300)
        assert 4 < talk.most <= 16


@pytest.mark.processes
def test_a_server_with_more_room_gets_more() -> None:
    def speed(seconds: float) -> Behavior:
        return lambda body, _: Reply(content=echo(body).content, seconds=seconds)

    with answering(speed(0.002)) as quick, answering(speed(0.15)) as slow:
        assert _texts([quick.address, slow.address], 300, initial_concurrency=2, max_concurrency=4) == _expected(300)
        assert len(quick.bodies) > 2 * len(slow.bodies) > 0


def _killable() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.openai_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _ended(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


@pytest.mark.processes
def test_what_a_killed_server_had_goes_to_the_others() -> None:
    with ExitStack() as stack:
        processes = [_killable() for _ in range(2)]
        for process in processes:
            stack.callback(_ended, process)
        doomed, other = (process.stdout.readline().strip() for process in processes if process.stdout)
        found = stream_responses([doomed, other], "/v1/completions", _requests(400), _client_config(), _text)
        texts = next(found)
        processes[0].kill()
        assert [*texts, *(text for ready in found for text in ready)] == _expected(400)


@pytest.mark.processes
def test_when_all_servers_have_died_the_error_has_the_last_failure() -> None:
    process = _killable()
    assert process.stdout
    address = process.stdout.readline().strip()
    found = stream_responses(
        [address], "/v1/completions", _requests(400), _client_config(server_unavailable_timeout_s=1.5), _text
    )
    next(found)
    _ended(process)
    with pytest.raises(ValueError, match=rf"No server responded for 1\.5 s: {re.escape(address)}: .*Connect"):
        list(found)


@pytest.mark.processes
def test_a_server_that_always_hangs_ends_the_run() -> None:
    with (
        answering(lambda *_: Reply(seconds=60)) as talk,
        pytest.raises(ValueError, match=r"No server responded for 1 s: .*no response within 0\.5 s"),
    ):
        _texts([talk.address], 5, request_timeout_s=0.5, server_unavailable_timeout_s=1)


@pytest.mark.processes
def test_a_request_that_is_always_answered_badly_ends_the_run_though_others_are_answered() -> None:
    with (
        answering(
            lambda body, _: Reply(500, {"error": {"message": "no"}}) if body["seed"] == 7 else echo(body)
        ) as talk,
        pytest.raises(ValueError, match=r"Request 7 got 6 unusable responses: .*500 no \(6 times\)"),
    ):
        # Its pauses grow, so it is the last by far.
        _texts([talk.address], 20, server_unavailable_timeout_s=120)
    assert sum(body["seed"] == 7 for body in talk.bodies) == 6


@pytest.mark.processes
@pytest.mark.parametrize("status", [400, 401, 404, 422, 301])
def test_a_refusal_ends_the_run_at_once_with_the_servers_words(status: int) -> None:
    def refuse(body: dict[str, Any], _: int) -> Reply:
        return Reply(status, {"error": {"message": "no such thing"}}) if body["seed"] == 3 else echo(body)

    with (
        answering(refuse) as talk,
        pytest.raises(ValueError, match=rf"{talk.address}/v1/completions refused the request: {status} no such thing"),
    ):
        _texts([talk.address], 20)
    assert sum(body["seed"] == 3 for body in talk.bodies) == 1


def test_an_exit_reason_ends_the_requests_at_once() -> None:
    with pytest.raises(ValueError, match="the server is gone for good"):
        _texts(
            ["http://127.0.0.1:9"],
            3,
            server_unavailable_timeout_s=60,
            exit_reason=lambda: "the server is gone for good",
        )


@pytest.mark.processes
def test_closing_the_stream_ends_the_requests() -> None:
    with answering(lambda body, _: Reply(content=echo(body).content, seconds=0.02)) as talk:
        found = stream_responses([talk.address], "/v1/completions", _requests(2000), _client_config(), _text)
        next(found)
        found.close()

        def quiet() -> bool:
            asked = len(talk.bodies)
            time.sleep(0.3)
            return len(talk.bodies) == asked

        until(quiet, "the end of what was on its way")
        assert len(talk.bodies) < 2000
    assert "http-requests" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.processes
def test_the_key_is_sent_and_never_shown() -> None:
    def leak(body: dict[str, Any], _: int) -> Reply:
        return Reply(401, {"error": {"message": "wrong key sesame-1234, try sesame-1234"}})

    with answering(leak) as talk, pytest.raises(ValueError, match="wrong key") as refused:
        _texts([talk.address], 1, key="sesame-1234")
    assert talk.keys == {"Bearer sesame-1234"}
    assert "sesame" not in str(refused.value)
