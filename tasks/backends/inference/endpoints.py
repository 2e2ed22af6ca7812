"""Where a model answers: on the servers of the site that are there and have it, or on one that is started for it."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from heirloom.errors import HeirloomError
from tasks.backends.inference.http_protocol import ClientConfig, TransientServerError, parse_response
from tasks.backends.inference.vllm_server import ModelServer, start
from tasks.backends.models.adapters import adapter_base_path
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling

ModelCards = Mapping[str, Mapping[str, Any]]
"""What a server says it serves: by the name to ask for."""


@dataclass(frozen=True)
class ModelEndpoint:
    """The servers that have a model, its name there, and what they say of it."""

    base_urls: tuple[str, ...]
    model_name: str
    model_card: Mapping[str, Any]
    exit_reason: Callable[[], str] = lambda: ""

    @property
    def is_vllm(self) -> bool:
        """Whether settings that only vLLM knows can be sent."""
        return self.model_card.get("owned_by") == "vllm"


class _RunningServer:
    """The server that was started by this process, and for what."""

    server: ModelServer | None = None
    shape: tuple[Path, Sampling, Resources] | None = None


def teacher_endpoint(name: str, resources: Resources, client_config: ClientConfig) -> ModelEndpoint:
    """Where the teacher answers: on those servers of the site that serve it.

    Raises:
        HeirloomError: no server that is there serves it, or not all the same one; or none is there or named.
    """
    with httpx.Client(**client_config.httpx_options()) as client:
        found = _present(client, resources.server_urls, client_config)
    having = [server for server, cards in found.items() if name in cards]
    if not having:
        served = "; ".join(f"{server} serves {_names(cards)}" for server, cards in found.items())
        raise HeirloomError(f"{served}; the teacher is {name!r}, on no server and not among resources.local_models")
    return _place(dict.fromkeys(having, name), found)


def model_endpoint(model: Path, settings: Sampling, resources: Resources, client_config: ClientConfig) -> ModelEndpoint:
    """Where a model of the run answers: a server is started for it where the site names none.

    Raises:
        HeirloomError: the folder is no model, or the servers of the site do not have it and cannot load it.
    """
    if not any((model / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise HeirloomError(
            f"{model} is no model: expected a folder with config.json or adapter_config.json, and weights"
        )
    with httpx.Client(**client_config.httpx_options()) as client:
        if not resources.server_urls:
            server = _started(model, settings, resources)
            return _place(
                {server.address: server.name}, _present(client, [server.address], client_config), server.exit_reason
            )
        found = _present(client, resources.server_urls, client_config)
        if adapter_base_path(model):
            name = _load_adapter(client, found, model, client_config)
            return _place(dict.fromkeys(found, name), _present(client, list(found), client_config))
    return _place({server: _whole(server, cards, model) for server, cards in found.items()}, found)


def _place(
    names: Mapping[str, str], found: Mapping[str, ModelCards], exit_reason: Callable[[], str] = lambda: ""
) -> ModelEndpoint:
    cards = [_described(found[server], name) for server, name in names.items()]
    if len(set(names.values())) > 1:
        raise HeirloomError(f"one model has several names: {dict(names)}; serve it by one name everywhere")
    for key in ("root", "max_model_len"):
        if len({str(card.get(key)) for card in cards}) > 1:
            said = {server: card.get(key) for server, card in zip(names, cards, strict=True)}
            raise HeirloomError(f"the servers do not have the same model: {key} is {said}")
    return ModelEndpoint(tuple(names), next(iter(names.values())), cards[0], exit_reason)


def _described(cards: ModelCards, name: str) -> dict[str, Any]:
    """The card of a model; an adapter has the length of what it is laid over."""
    above = cards.get(str(cards[name].get("parent")), {})
    return {**cards[name], "max_model_len": cards[name].get("max_model_len") or above.get("max_model_len")}


def _started(model: Path, settings: Sampling, resources: Resources) -> ModelServer:
    shape = (model, Sampling(dtype=settings.dtype), resources)
    if _RunningServer.server and (_RunningServer.shape != shape or _RunningServer.server.exit_reason()):
        _RunningServer.server.close()
        _RunningServer.server = None
    if not _RunningServer.server:
        _RunningServer.server, _RunningServer.shape = start(model, settings, resources), shape
        print(f"{model} answers at {_RunningServer.server.address}", flush=True)  # noqa: T201  (the log of this process)
    return _RunningServer.server


def _load_adapter(
    client: httpx.Client, found: Mapping[str, ModelCards], model: Path, client_config: ClientConfig
) -> str:
    weights = (model / "adapter_model.safetensors").read_bytes()
    name = f"heirloom-{hashlib.sha256(weights).hexdigest()[:16]}"
    for server in (server for server, cards in found.items() if name not in cards):
        asked = {"lora_name": name, "lora_path": str(model.resolve())}
        answer = client.post(f"{server}/v1/load_lora_adapter", json=asked)
        if not answer.is_success:
            raise HeirloomError(
                f"{server} did not load the adapter {model} ({answer.status_code} {client_config.redact_key(answer.text)}); it must see "
                "that folder, and be started with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
            )
    return name


def _whole(server: str, cards: ModelCards, model: Path) -> str:
    for name, card in cards.items():
        if str(model) in (name, card.get("root")):
            return name
    raise HeirloomError(
        f"{server} serves {_names(cards)}, not the model {model}; leave resources.server_urls out, and a server is started for "
        "each model, or name a served model as generate.teacher"
    )


def _present(client: httpx.Client, servers: Sequence[str], client_config: ClientConfig) -> dict[str, ModelCards]:
    """Every server that answers, and what it serves; waits with patience for the first, and for no other.

    Raises:
        HeirloomError: a server refused, or none answered.
    """
    deadline = time.monotonic() + client_config.server_unavailable_timeout_s
    found: dict[str, ModelCards] = {}
    while True:
        absent = {}
        for server in servers:
            try:
                said = parse_response(
                    client.get(f"{server}/v1/models", timeout=min(30, client_config.server_unavailable_timeout_s)),
                    client_config,
                )
                found[server] = {str(card["id"]): card for card in said["data"]}
            except (httpx.HTTPError, TransientServerError) as error:
                absent[server] = f"{type(error).__name__} {error}"
            except (KeyError, TypeError) as error:
                raise HeirloomError(f"{server}/v1/models does not say what is served") from error
        for server, why in absent.items():
            print(f"{server} is left out: {why}", flush=True)  # noqa: T201  (the log of this process)
        if found:
            return found
        if time.monotonic() > deadline:
            seen = "; ".join(f"{server}: {why}" for server, why in absent.items())
            raise HeirloomError(f"no server answered for {client_config.server_unavailable_timeout_s:g} s: {seen}")
        time.sleep(1)


def _names(cards: ModelCards) -> str:
    return ", ".join(cards) or "nothing"
