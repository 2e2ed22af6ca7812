"""Settings of the machines a run may use: processes, servers, Ray, accelerate."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from heirloom.errors import HeirloomError
from tasks.backends.settings.base import Settings
from tasks.backends.settings.sampling import _PAIRS


class Resources(Settings):
    """`[resources]` of the site: where work happens. Recorded, never part of what a run is."""

    threads_per_worker: int = Field(1, ge=1, description="CPU threads of each worker process")
    num_train_workers: int = Field(1, ge=1, description="training processes at the same time")
    num_sample_workers: int = Field(
        1,
        ge=1,
        description="sampling processes at the same time, or engines on the Ray cluster; one generation uses all that are free",
    )
    checkpoint_interval_s: float = Field(
        60, gt=0, description="how often a training writes a checkpoint, from which a killed one resumes"
    )
    accelerate_config: str = Field(
        "",
        description="configuration file of `accelerate`: trainings are launched with it, as several processes where it "
        "says so; without it they run in the worker process, which stays warm",
    )
    ray: str = Field(
        "",
        description="address of a Ray cluster (`auto`, `ray://host:10001`, or `local` to start one) whose machines share the heavy "
        "pieces of a stage; without it threads do them. They must see the store under the same path",
    )
    gpus_per_engine: float = Field(
        0, ge=0, description="GPUs that each engine takes on the Ray cluster; 0 where it has none"
    )
    kv_cache_mib: int = Field(256, ge=16, description="memory for vLLM's key-value cache, in MiB")
    max_num_seqs: int = Field(256, ge=1, description="sequences vLLM advances together")
    server_urls: tuple[str, ...] = Field(
        (),
        description="addresses of OpenAI-compatible servers; without any, sampler `server` starts vLLM's for each model",
    )
    local_models: Annotated[tuple[tuple[str, Path], ...], _PAIRS] = Field(
        (),
        description="folders of models that can be teachers, by their names there: a table, `{wise = '/models/wise'}`",
    )
    api_key_env_var: str = Field("", description="name of the environment variable that holds the servers' key")
    max_concurrent_requests: int = Field(
        256, ge=1, description="most requests at one server at a time; fewer while it is busy or slow"
    )
    request_timeout_s: float = Field(300, gt=0, description="how long one request may take before it is asked again")
    server_unavailable_timeout_s: float = Field(
        120, gt=0, description="how long every server may fail before the run ends with an error"
    )

    def model_folder(self, teacher: str) -> Path | None:
        """Where a teacher's model is, if it is one of `local_models`."""
        return dict(self.local_models).get(teacher)

    @field_validator("server_urls")
    @classmethod
    def _are_addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for place, server in enumerate(servers):
            parts = urlsplit(server)
            if parts.username or parts.password:
                # Not shown: what is before the @ is a secret.
                raise HeirloomError(
                    f"address {place + 1} holds a password; put it in the environment and name it in api_key_env_var"
                )
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise HeirloomError(f"{server!r} is no address; write it as http://host:port")
        return tuple(dict.fromkeys(server.rstrip("/").removesuffix("/v1") for server in servers))
