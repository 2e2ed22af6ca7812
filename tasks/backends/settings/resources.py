"""Settings of the machines a run may use: processes, servers, Ray, accelerate."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from heirloom.errors import HeirloomError
from heirloom.settings import TABLE_AS_JSON, TABLE_AS_PAIRS, Settings, has_credentials

PACKAGED_MODELS = ("smollm2",)
"""Names of models that come as a Python package, and need neither a folder nor a server."""


class Resources(Settings):
    """`[resources]` of the site. Recorded with each artifact, but no part of its fingerprint."""

    threads_per_worker: int = Field(1, ge=1, description="CPU threads of each worker process.")
    num_train_workers: int = Field(1, ge=1, description="Maximum number of training processes.")
    num_sample_workers: int = Field(
        1,
        ge=1,
        description="Maximum number of sampling processes, or of engines on the Ray cluster. One generation uses all "
        "that are free. Each process has GPUs of its own, so this is the data-parallel size.",
    )
    checkpoint_interval_s: float = Field(
        60, gt=0, description="Seconds between checkpoints of a training, from which it resumes after an interruption."
    )
    accelerate_config: str = Field(
        "",
        description="Configuration file of `accelerate`, with which trainings are launched, as one or several "
        "processes. Without it they run in the worker process, which needs no start-up time.",
    )
    ray: str = Field(
        "",
        description="Address of a Ray cluster (`auto`, `ray://host:10001`, or `local` to start one) that runs the "
        "expensive parts of a stage; without it threads run them. All its machines must see the store under the same "
        "path.",
    )
    gpus_per_engine: float = Field(0, ge=0, description="GPUs of each engine on the Ray cluster. 0: no GPU.")
    kv_cache_mib: int = Field(
        0,
        ge=0,
        description="Memory for vLLM's key-value cache, in MiB. 0: on GPUs `gpu_memory_utilization`; on a CPU what "
        "`max_num_seqs` "
        "texts need, at most 40 % of the free memory.",
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="Share of each GPU's memory for vLLM: weights, activations and key-value cache."
    )
    max_num_seqs: int = Field(256, ge=1, description="Maximum number of sequences that vLLM decodes in one batch.")
    tensor_parallel_size: int = Field(
        1, ge=1, description="GPUs that share every layer of a model in one engine. It must divide the attention heads."
    )
    pipeline_parallel_size: int = Field(
        1, ge=1, description="GPUs, or groups of them, that share the layers of a model in turn."
    )
    check_memory: bool = Field(
        True, description="Refuse a run whose estimated memory or disk space exceeds what is free. false: warn instead."
    )
    engine: Annotated[str, *TABLE_AS_JSON] = Field(
        "",
        description="Further arguments of vLLM's engine that do not change completions, by vLLM's names: a table, "
        "`{max_num_batched_tokens = 16384}`.",
    )
    server_urls: tuple[str, ...] = Field(
        (),
        description="URLs of OpenAI-compatible servers. Without any, sampler `server` starts a vLLM server for each "
        "model.",
    )
    local_models: Annotated[tuple[tuple[str, Path], ...], TABLE_AS_PAIRS] = Field(
        (),
        description="Names of teachers that are sampled on this machine, and their models: a folder, `smollm2`, or a "
        "name on the Hugging Face Hub. A table, `{wise = '/models/wise'}`.",
    )
    api_key_env_var: str = Field("", description="Name of the environment variable with the API key of the servers.")
    max_concurrent_requests: int = Field(
        256, ge=1, description="Maximum number of concurrent requests to one server. Lowered while it is busy or slow."
    )
    request_timeout_s: float = Field(300, gt=0, description="Seconds until a request is abandoned and sent again.")
    server_unavailable_timeout_s: float = Field(
        120, gt=0, description="Seconds during which all servers may fail before the run ends with an error."
    )
    price_per_million_tokens: float = Field(
        0, ge=0, description="Price of a million generated tokens, in any currency: what a server charges."
    )
    price_per_hour: float = Field(
        0, ge=0, description="Price of an hour of the machine that runs the loop, with its GPUs, in the same currency."
    )
    report_to: tuple[Literal["mlflow", "wandb", "trackio"], ...] = Field(
        (),
        description="Trackers that log each training, by transformers' own callbacks. Servers, projects and keys come "
        "from the variables of the tracker, such as `MLFLOW_TRACKING_URI`, `WANDB_API_KEY` or `TRACKIO_PROJECT`.",
    )

    @property
    def gpus_per_local_engine(self) -> int:
        """GPUs that one engine of this machine spans, if it has any."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def price(self, generated_tokens: int, seconds: float | None) -> float | None:
        """Return the price of work; None if no price is set, or if an hourly price meets an unknown time."""
        if not (self.price_per_million_tokens or self.price_per_hour) or (self.price_per_hour and seconds is None):
            return None
        return generated_tokens / 1e6 * self.price_per_million_tokens + (seconds or 0) / 3600 * self.price_per_hour

    def local_model(self, teacher: str) -> str:
        """Return the folder or name of the model of a teacher that is sampled here; empty if servers have it.

        Without servers, a teacher that is not one of `local_models` can be a packaged model, a folder, or a model of
        the Hub by its full name, `owner/model`.
        """
        local_models = {name: str(model) for name, model in self.local_models}
        if teacher in local_models or self.server_urls:
            return local_models.get(teacher, "")
        return teacher if teacher in PACKAGED_MODELS or "/" in teacher else ""

    @field_validator("ray")
    @classmethod
    def _check_ray(cls, address: str) -> str:
        if has_credentials(address):
            raise HeirloomError("`ray` contains a password or a query, and the site is stored with each run.")
        return address

    @field_validator("server_urls")
    @classmethod
    def _normalize_urls(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for index, server in enumerate(servers):
            parts = urlsplit(server)
            if has_credentials(server):
                # The message does not show the URL, since these parts can be a secret.
                raise HeirloomError(
                    f"URL {index + 1} of server_urls contains a password or a query. Put the key into an environment "
                    "variable and name that in api_key_env_var."
                )
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise HeirloomError(f"{server!r} is not a URL. Write it as http://host:port.")
        return tuple(dict.fromkeys(server.rstrip("/").removesuffix("/v1") for server in servers))
