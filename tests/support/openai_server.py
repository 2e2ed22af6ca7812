"""A small server of OpenAI's completions API, with failures as a test defines them.

As a module, one that can be killed.
"""

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer; `cut` ends the connection in the middle of the body."""

    status: int = 200
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cut: bool = False


Behavior = Callable[[dict[str, Any], int], Reply]
"""From the body of a request and the number of times that it was seen before, to an answer."""


def echo(body: Mapping[str, Any], **changed: Any) -> Reply:
    """A good answer: a text that follows from the prompt, or from the user's message, and the seed."""
    if "messages" in body:
        text = f" {body['messages'][-1]['content']} seed {body.get('seed')}"
        logs = {"content": [{"logprob": -0.5}, {"logprob": -1.5}]} if body.get("logprobs") else None
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": logs}
    else:
        text = f" {body['prompt']} seed {body.get('seed')}"
        choice = {"text": text, "finish_reason": "stop", "logprobs": {"token_logprobs": [-0.5, -1.5]}}
    content = {
        "model": body["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    return Reply(content={**content, **changed})


@dataclass
class Talk:
    """What was asked of a server, and how much of it at the same time."""

    address: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    now: int = 0
    most: int = 0


@contextmanager
def answering(
    behavior: Behavior = lambda body, _: echo(body), models: Any = ("tiny",), owner: str = "somebody"
) -> Iterator[Talk]:
    """Start a server in this process; yields what it is asked, as it is asked."""
    talk, lock, seen = Talk(""), threading.Lock(), Counter[str]()
    cards = [model if isinstance(model, dict) else {"id": model, "owned_by": owner} for model in models]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(Reply(content={"data": cards}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked = json.dumps(body, sort_keys=True)
                turn = seen[asked]
                seen[asked] += 1
                talk.bodies.append(body)
                talk.keys.add(self.headers.get("Authorization", ""))
                talk.now += 1
                talk.most = max(talk.most, talk.now)
            try:
                self._reply(behavior(body, turn))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with lock:
                    talk.now -= 1

        def _reply(self, reply: Reply) -> None:
            time.sleep(reply.seconds)
            content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
            self.send_response_only(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if reply.cut else content)
            if reply.cut:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            pass

    class Wide(ThreadingHTTPServer):
        request_queue_size = 512

    server = Wide(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    talk.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield talk
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with answering(lambda body, _: Reply(content=echo(body).content, seconds=0.02)) as talk:
        sys.stdout.write(f"{talk.address}\n")
        sys.stdout.flush()
        sys.stdin.read()
