"""Where a model answers: on the servers of the site that are there and have it, or on one that is started for it."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks.backends.inference.http_protocol import Manners, TroubleError, parsed
from tasks.backends.inference.vllm_server import ModelServer, start
from tasks.backends.models.adapters import adapter_base
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling

Cards = Mapping[str, Mapping[str, Any]]
"""What a server says it serves: by the name to ask for."""


@dataclass(frozen=True)
class Place:
    """The servers that have a model, its name there, and what they say of it."""

    servers: tuple[str, ...]
    name: str
    card: Mapping[str, Any]
    ended: Callable[[], str] = lambda: ""

    @property
    def is_vllm(self) -> bool:
        """Whether settings that only vLLM knows can be sent."""
        return self.card.get("owned_by") == "vllm"


class _Started:
    """The server that was started by this process, and for what."""

    server: ModelServer | None = None
    shape: tuple[Path, Sampling, Resources] | None = None


def of_teacher(name: str, resources: Resources, manners: Manners) -> Place:
    """Where the teacher answers: on those servers of the site that serve it.

    Raises:
        ValueError: no server that is there serves it, or not all the same one; or none is there or named.
    """
    with httpx.Client(**manners.opener()) as client:
        found = _present(client, resources.servers, manners)
    having = [server for server, cards in found.items() if name in cards]
    if not having:
        served = "; ".join(f"{server} serves {_names(cards)}" for server, cards in found.items())
        raise ValueError(f"{served}; the teacher is {name!r}, on no server and not among resources.models")
    return _place(dict.fromkeys(having, name), found)


def of_model(model: Path, settings: Sampling, resources: Resources, manners: Manners) -> Place:
    """Where a model of the run answers: a server is started for it where the site names none.

    Raises:
        ValueError: the folder is no model, or the servers of the site do not have it and cannot load it.
    """
    if not any((model / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ValueError(f"{model} is no model: expected a folder with config.json or adapter_config.json, and weights")
    with httpx.Client(**manners.opener()) as client:
        if not resources.servers:
            server = _started(model, settings, resources)
            return _place({server.address: server.name}, _present(client, [server.address], manners), server.ended)
        found = _present(client, resources.servers, manners)
        if adapter_base(model):
            name = _load_adapter(client, found, model, manners)
            return _place(dict.fromkeys(found, name), _present(client, list(found), manners))
    return _place({server: _whole(server, cards, model) for server, cards in found.items()}, found)


def _place(names: Mapping[str, str], found: Mapping[str, Cards], ended: Callable[[], str] = lambda: "") -> Place:
    cards = [_described(found[server], name) for server, name in names.items()]
    if len(set(names.values())) > 1:
        raise ValueError(f"one model has several names: {dict(names)}; serve it by one name everywhere")
    for key in ("root", "max_model_len"):
        if len({str(card.get(key)) for card in cards}) > 1:
            said = {server: card.get(key) for server, card in zip(names, cards, strict=True)}
            raise ValueError(f"the servers do not have the same model: {key} is {said}")
    return Place(tuple(names), next(iter(names.values())), cards[0], ended)


def _described(cards: Cards, name: str) -> dict[str, Any]:
    """The card of a model; an adapter has the length of what it is laid over."""
    above = cards.get(str(cards[name].get("parent")), {})
    return {**cards[name], "max_model_len": cards[name].get("max_model_len") or above.get("max_model_len")}


def _started(model: Path, settings: Sampling, resources: Resources) -> ModelServer:
    shape = (model, Sampling(dtype=settings.dtype), resources)
    if _Started.server and (_Started.shape != shape or _Started.server.ended()):
        _Started.server.close()
        _Started.server = None
    if not _Started.server:
        _Started.server, _Started.shape = start(model, settings, resources), shape
        print(f"{model} answers at {_Started.server.address}", flush=True)  # noqa: T201  (the log of this process)
    return _Started.server


def _load_adapter(client: httpx.Client, found: Mapping[str, Cards], model: Path, manners: Manners) -> str:
    weights = (model / "adapter_model.safetensors").read_bytes()
    name = f"heirloom-{hashlib.sha256(weights).hexdigest()[:16]}"
    for server in (server for server, cards in found.items() if name not in cards):
        asked = {"lora_name": name, "lora_path": str(model.resolve())}
        answer = client.post(f"{server}/v1/load_lora_adapter", json=asked)
        if not answer.is_success:
            raise ValueError(
                f"{server} did not load the adapter {model} ({answer.status_code} {manners.without_key(answer.text)}); it must see "
                "that folder, and be started with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
            )
    return name


def _whole(server: str, cards: Cards, model: Path) -> str:
    for name, card in cards.items():
        if str(model) in (name, card.get("root")):
            return name
    raise ValueError(
        f"{server} serves {_names(cards)}, not the model {model}; leave resources.servers out, and a server is started for "
        "each model, or name a served model as generate.teacher"
    )


def _present(client: httpx.Client, servers: Sequence[str], manners: Manners) -> dict[str, Cards]:
    """Every server that answers, and what it serves; waits with patience for the first, and for no other.

    Raises:
        ValueError: a server refused, or none answered.
    """
    deadline = time.monotonic() + manners.patience_seconds
    found: dict[str, Cards] = {}
    while True:
        absent = {}
        for server in servers:
            try:
                said = parsed(client.get(f"{server}/v1/models", timeout=min(30, manners.patience_seconds)), manners)
                found[server] = {str(card["id"]): card for card in said["data"]}
            except (httpx.HTTPError, TroubleError) as error:
                absent[server] = f"{type(error).__name__} {error}"
            except (KeyError, TypeError) as error:
                raise ValueError(f"{server}/v1/models does not say what is served") from error
        for server, why in absent.items():
            print(f"{server} is left out: {why}", flush=True)  # noqa: T201  (the log of this process)
        if found:
            return found
        if time.monotonic() > deadline:
            seen = "; ".join(f"{server}: {why}" for server, why in absent.items())
            raise ValueError(f"no server answered for {manners.patience_seconds:g} s: {seen}")
        time.sleep(1)


def _names(cards: Cards) -> str:
    return ", ".join(cards) or "nothing"
