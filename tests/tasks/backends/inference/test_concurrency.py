import time

from tasks.backends.inference.concurrency import ConcurrencyLimit, backoff_seconds
from tasks.backends.inference.http_protocol import TransientServerError


def _now() -> float:
    return time.monotonic()


def test_a_server_that_keeps_up_gets_twice_as_many_each_round_up_to_the_most() -> None:
    server = ConcurrencyLimit("a", 4.0)
    for _ in range(4):
        server.succeeded(slow=False, started=_now(), max_limit=10)
    assert server.limit == 8
    for _ in range(9):
        server.succeeded(slow=False, started=_now(), max_limit=10)
    assert server.limit == 10


def test_many_refusals_of_requests_that_were_sent_together_count_once() -> None:
    server, sent = ConcurrencyLimit("a", 64.0), _now()
    for _ in range(64):
        server.failed(TransientServerError("429", busy=True), sent)
    assert server.limit == 32
    assert server.errors["429"] == 64
    server.failed(TransientServerError("429", busy=True), _now())
    assert server.limit == 16


def test_above_what_was_too_much_it_gets_one_more_a_round() -> None:
    server = ConcurrencyLimit("a", 8.0)
    server.failed(TransientServerError("429", busy=True), _now())
    for _ in range(4):
        server.succeeded(slow=False, started=_now(), max_limit=100)
    assert 4.9 < server.limit <= 5


def test_a_slow_answer_is_a_sign_of_too_many() -> None:
    server = ConcurrencyLimit("a", 8.0)
    server.succeeded(slow=True, started=_now(), max_limit=100)
    assert server.limit == 4


def test_a_silent_server_rests_and_is_then_asked_one_thing() -> None:
    server = ConcurrencyLimit("a", 64.0)
    server.failed(TransientServerError("connection refused", unreachable=True), _now())
    assert server.limit == 1
    assert server.backoff_until > _now()


def test_a_bad_answer_alone_is_no_reason_to_rest() -> None:
    server = ConcurrencyLimit("a", 64.0)
    server.failed(TransientServerError("500"), _now())
    assert server.backoff_until <= _now()


def test_a_pause_that_was_asked_for_is_kept() -> None:
    server = ConcurrencyLimit("a", 64.0)
    server.failed(TransientServerError("429", busy=True, retry_after=20.0), _now())
    assert server.backoff_until > _now() + 19


def test_pauses_grow_to_half_a_minute_and_differ() -> None:
    assert max(backoff_seconds(1) for _ in range(100)) <= 0.5
    assert len({backoff_seconds(1) for _ in range(10)}) == 10
    assert min(backoff_seconds(50) for _ in range(100)) >= 15
    assert max(backoff_seconds(50) for _ in range(100)) <= 30
