"""Resolve a model to the base URLs of the servers that serve it; start a vLLM server if the site names none."""

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
"""Cards of the models that a server lists at /v1/models, by the name for requests."""


@dataclass(frozen=True)
class ModelEndpoint:
    """Servers of one model, its name in requests, and its card in their list of models."""

    base_urls: tuple[str, ...]
    model_name: str
    model_card: Mapping[str, Any]
    exit_reason: Callable[[], str] = lambda: ""
    """Returns why a server that this process started has exited; an empty string if it runs."""

    @property
    def is_vllm(self) -> bool:
        """Whether the servers accept settings that only vLLM has."""
        return self.model_card.get("owned_by") == "vllm"


class _RunningServer:
    """The server that this process has started, and the configuration that it was started for."""

    server: ModelServer | None = None
    configuration: tuple[Path, Sampling, Resources] | None = None


def teacher_endpoint(name: str, resources: Resources, client_config: ClientConfig) -> ModelEndpoint:
    """Return the servers of the site that serve a teacher.

    Args:
        name: Name of the teacher in requests.
        resources: Resources of the site, with its `server_urls`.
        client_config: Key and timeouts.

    Raises:
        HeirloomError: no server responds, none serves the teacher, or they serve different models by its name.
    """
    with httpx.Client(**client_config.httpx_options()) as client:
        cards_by_server = _wait_for_model_cards(client, resources.server_urls, client_config)
    teacher_servers = [server for server, cards in cards_by_server.items() if name in cards]
    if not teacher_servers:
        served = "; ".join(f"{server} serves {_names(cards)}" for server, cards in cards_by_server.items())
        raise HeirloomError(
            f"No server has the teacher {name!r}: {served}. Name a served model as `generate.teacher`, or add the "
            "teacher to `resources.local_models`."
        )
    return _endpoint(dict.fromkeys(teacher_servers, name), cards_by_server)


def model_endpoint(model: Path, settings: Sampling, resources: Resources, client_config: ClientConfig) -> ModelEndpoint:
    """Return the servers of a model of the run; start a vLLM server for it if the site names none.

    A site's servers must have the model itself, or the base model of an adapter, which is then loaded into them.

    Args:
        model: Folder of the model or adapter.
        settings: Sampling settings; only those of the engine and `max_tokens` matter.
        resources: Resources of the site, with its `server_urls`.
        client_config: Key and timeouts.

    Raises:
        HeirloomError: the folder is not a model, no server responds, or a server does not have the model and cannot
            load it.
    """
    if not any((model / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise HeirloomError(
            f"{model} is not a model. Expected a folder with config.json or adapter_config.json, and weights."
        )
    with httpx.Client(**client_config.httpx_options()) as client:
        if not resources.server_urls:
            server = _start_or_reuse(model, settings, resources)
            cards_by_server = _wait_for_model_cards(client, [server.address], client_config)
            return _endpoint({server.address: server.name}, cards_by_server, server.exit_reason)
        cards_by_server = _wait_for_model_cards(client, resources.server_urls, client_config)
        if adapter_base_path(model):
            name = _load_adapter(client, cards_by_server, model, client_config)
            names = dict.fromkeys(cards_by_server, name)
            return _endpoint(names, _wait_for_model_cards(client, list(cards_by_server), client_config))
    names = {server: _served_name(server, cards, model) for server, cards in cards_by_server.items()}
    return _endpoint(names, cards_by_server)


def _endpoint(
    names: Mapping[str, str], cards_by_server: Mapping[str, ModelCards], exit_reason: Callable[[], str] = lambda: ""
) -> ModelEndpoint:
    """Build the endpoint of a model, given its name at each server, after checking that the servers agree."""
    cards = [_card_with_length(cards_by_server[server], name) for server, name in names.items()]
    if len(set(names.values())) > 1:
        raise HeirloomError(f"The servers have several names for one model: {dict(names)}. Use one name everywhere.")
    for key in ("root", "max_model_len"):
        if len({str(card.get(key)) for card in cards}) > 1:
            values = {server: card.get(key) for server, card in zip(names, cards, strict=True)}
            raise HeirloomError(
                f"The servers do not have the same model: {key} is {values}. Name only servers of one model in "
                "`resources.server_urls`."
            )
    return ModelEndpoint(tuple(names), next(iter(names.values())), cards[0], exit_reason)


def _card_with_length(cards: ModelCards, name: str) -> dict[str, Any]:
    """Return the card of a model. An adapter without a context length has that of its base model."""
    base_card = cards.get(str(cards[name].get("parent")), {})
    return {**cards[name], "max_model_len": cards[name].get("max_model_len") or base_card.get("max_model_len")}


def _start_or_reuse(model: Path, settings: Sampling, resources: Resources) -> ModelServer:
    engine_settings = settings.model_dump(include={"dtype", "quantization", "speculative_config", "max_tokens"})
    configuration = (model, Sampling.model_validate(engine_settings), resources)
    running = _RunningServer.server
    if running and (_RunningServer.configuration != configuration or running.exit_reason()):
        running.close()
        _RunningServer.server = None
    if not _RunningServer.server:
        _RunningServer.server = start(model, settings, resources)
        _RunningServer.configuration = configuration
        # Standard output is the log of this process.
        print(f"{model} answers at {_RunningServer.server.address}", flush=True)  # noqa: T201
    return _RunningServer.server


def _load_adapter(
    client: httpx.Client, cards_by_server: Mapping[str, ModelCards], model: Path, client_config: ClientConfig
) -> str:
    """Load an adapter into every server that has not loaded it, and return its name, which is a hash of its weights."""
    weights = (model / "adapter_model.safetensors").read_bytes()
    name = f"heirloom-{hashlib.sha256(weights).hexdigest()[:16]}"
    body = {"lora_name": name, "lora_path": str(model.resolve())}
    for server, cards in cards_by_server.items():
        if name in cards:
            continue
        response = client.post(f"{server}/v1/load_lora_adapter", json=body)
        if not response.is_success:
            reason = f"{response.status_code} {client_config.redact_key(response.text)}"
            raise HeirloomError(
                f"{server} did not load the adapter {model}: {reason}. The server must have access to that folder, and "
                "be started with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1."
            )
    return name


def _served_name(server: str, cards: ModelCards, model: Path) -> str:
    """Return the name of the model at a server: the model whose name or root is the folder."""
    for name, card in cards.items():
        if str(model) in (name, card.get("root")):
            return name
    raise HeirloomError(
        f"{server} serves {_names(cards)}, not the model {model}. Remove `resources.server_urls` to start a server for "
        "each model, or name a served model as `generate.teacher`."
    )


def _wait_for_model_cards(
    client: httpx.Client, servers: Sequence[str], client_config: ClientConfig
) -> dict[str, ModelCards]:
    """Return the models of every server that responds, after waiting until at least one does.

    Raises:
        HeirloomError: a server refused the request or sent no list of models, or none responded in time.
    """
    timeout_s = client_config.server_unavailable_timeout_s
    deadline = time.monotonic() + timeout_s
    cards_by_server: dict[str, ModelCards] = {}
    while True:
        errors = {}
        for server in servers:
            try:
                response = client.get(f"{server}/v1/models", timeout=min(30, timeout_s))
                models = parse_response(response, client_config)["data"]
                cards_by_server[server] = {str(card["id"]): card for card in models}
            except (httpx.HTTPError, TransientServerError) as error:
                errors[server] = f"{type(error).__name__} {error}"
            except (KeyError, TypeError) as error:
                raise HeirloomError(
                    f"{server}/v1/models returned no list of models. Name OpenAI-compatible servers in "
                    "`resources.server_urls`."
                ) from error
        for server, message in errors.items():
            print(f"{server} is not used: {message}", flush=True)  # noqa: T201  (the log of this process)
        if cards_by_server:
            return cards_by_server
        if time.monotonic() > deadline:
            messages = "; ".join(f"{server}: {message}" for server, message in errors.items())
            raise HeirloomError(
                f"No server responded for {timeout_s:g} s: {messages}. Check `resources.server_urls` and the servers."
            )
        time.sleep(1)


def _names(cards: ModelCards) -> str:
    return ", ".join(cards) or "nothing"
