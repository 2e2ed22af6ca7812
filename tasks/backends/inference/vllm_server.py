"""A vLLM server for one model, started here: ready when it answers, ended with its owner, however that ends.

The server leads a process group of its own, watches its owner, and takes its group with it: killing an owner, or the
server alone, leaves no engine behind. It runs with the settings of the embedded engine, so that it says the same.
"""

import contextlib
import importlib.util
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from heirloom.errors import HeirloomError
from tasks.backends.models.adapters import adapter_base_path, vllm_max_lora_rank
from tasks.backends.processes import SOURCE_ROOT, exit_with_parent
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling

_START_SECONDS = 900
_QUIET = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True)
class ModelServer:
    """A running server; `name` is what its model is called in requests."""

    address: str
    name: str
    _process: "subprocess.Popen[bytes]"

    def exit_reason(self) -> str:
        """Why it will not answer any more, and then nothing of it is left; empty while it runs."""
        code = self._process.poll()
        if code is not None:
            # One that was killed alone leaves its engine behind.
            self.close()
        return "" if code is None else f"the vLLM server for {self.name} ended by itself (code {code})"

    def close(self) -> None:
        """End it and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def start(model: Path, settings: Sampling, resources: Resources) -> ModelServer:
    """Start a server for a model folder, or for an adapter on its base, and wait until it answers.

    What it says goes to this process's own output.

    Raises:
        HeirloomError: vLLM is not installed, or the server ended before it answered.
    """
    if importlib.util.find_spec("vllm") is None:
        raise HeirloomError(
            "without resources.server_urls, a server is vLLM's own, and vLLM is not installed; install it, or name servers"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(SOURCE_ROOT)
    code = f"import sys; sys.path.insert(0, {root!r}); from tasks.backends.inference.vllm_server import main; main({os.getpid()})"
    words = [sys.executable, "-P", "-c", code, *_arguments(model, settings, resources, port)]
    environment = {**os.environ, **_environment(resources)}
    process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    server = ModelServer(f"http://127.0.0.1:{port}", str(model), process)
    try:
        _wait(server)
    except BaseException:
        server.close()
        raise
    return server


def main(owner: int) -> None:
    """The server's side: watch the owner, then be vLLM's server."""
    exit_with_parent(owner)
    # Its command `vllm serve` asks for the metadata of a package that the CPU build does not have.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


def _arguments(model: Path, settings: Sampling, resources: Resources, port: int) -> Iterator[str]:
    base = adapter_base_path(model)
    given = {
        "model": base or str(model),
        "served-model-name": base or str(model),
        "host": "127.0.0.1",
        "port": port,
        "dtype": settings.dtype,
        "seed": 0,
        "kv-cache-memory-bytes": resources.kv_cache_mib << 20,
        "block-size": 32,
        "max-num-seqs": resources.max_num_seqs,
        # Or it takes sampling settings that a request leaves out from a file of the model.
        "generation-config": "vllm",
        "structured-outputs-config": json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}),
        **({"lora-modules": f"{model}={model}", "max-lora-rank": vllm_max_lora_rank(model)} if base else {}),
    }
    for name, value in given.items():
        yield from (f"--{name}", str(value))
    yield from ("--enforce-eager", "--no-enable-chunked-prefill", "--disable-uvicorn-access-log", "--disable-log-stats")
    yield from ("--enable-lora",) if base else ()


def _environment(resources: Resources) -> dict[str, str]:
    # One process less to start; and as many threads as the embedded engine has, because their number changes the last bits.
    return {
        **_QUIET,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(resources.threads_per_worker),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }


def _wait(server: ModelServer) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline:
            if ended := server.exit_reason():
                raise HeirloomError(f"{ended} before it answered; what it said last is in the log of this process")
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{server.address}/health").is_success:
                    return
            time.sleep(0.25)
    raise HeirloomError(f"the vLLM server for {server.name} did not answer within {_START_SECONDS} s")
