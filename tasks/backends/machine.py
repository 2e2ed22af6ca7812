"""Memory of this machine: main memory within the limits of a container, and the memory of its NVIDIA GPUs."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Limit and usage of the container, by version of the control groups."""
_QUERY = ("--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU: its name for `CUDA_VISIBLE_DEVICES`, and its memory in bytes."""

    name: str
    memory: int
    free_memory: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Memory in bytes. `memory` is what this process and its children may use together."""

    memory: int
    free_memory: int
    gpus: tuple[Gpu, ...] = ()
    bfloat16: bool = True
    """Whether GPUs or, without any, the CPU multiply bfloat16 in hardware."""


def this_machine() -> Machine:
    """Read the memory of this machine and of the GPUs that this process may use."""
    total, free = _main_memory()
    for limit_file, usage_file in _CGROUPS:
        limit, usage = _number_in(limit_file), _number_in(usage_file)
        # Control groups of version 1 without a limit have a number above any memory.
        if limit is not None and limit < total:
            total, free = limit, min(free, limit - (usage or 0))
    gpus = _gpus()
    bfloat16 = bool(gpus) or _cpu_has_bfloat16()
    return Machine(memory=total, free_memory=max(0, free), gpus=gpus, bfloat16=bfloat16)


def _main_memory() -> tuple[int, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kibibytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return kibibytes["MemTotal"] << 10, kibibytes["MemAvailable"] << 10
    except OSError:
        # Other systems do not say how much is available, for which half of all is a cautious guess.
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total // 2


def _cpu_has_bfloat16() -> bool:
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _number_in(file: str) -> int | None:
    try:
        content = Path(file).read_text().strip()
    except OSError:
        return None
    return int(content) if content.isdigit() else None


def _gpus() -> tuple[Gpu, ...]:
    """List the GPUs that `nvidia-smi` shows and `CUDA_VISIBLE_DEVICES` allows, in its order."""
    if not shutil.which("nvidia-smi"):
        return ()
    answer = subprocess.run(["nvidia-smi", *_QUERY], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if answer.returncode:
        return ()
    return visible_gpus(answer.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible_gpus(listing: str, visible: str | None) -> tuple[Gpu, ...]:
    """Parse the listing of `nvidia-smi`, and keep the GPUs that `CUDA_VISIBLE_DEVICES` names; None allows all."""
    gpus: dict[str, Gpu] = {}
    by_uuid: dict[str, Gpu] = {}
    for line in listing.strip().splitlines():
        index, uuid, total, free = (value.strip() for value in line.split(","))
        gpus[index] = by_uuid[uuid] = Gpu(name=index, memory=int(total) << 20, free_memory=int(free) << 20)
    if visible is None:
        return tuple(gpus.values())
    allowed: list[Gpu] = []
    for name in (part.strip() for part in visible.split(",")):
        matches = [gpu for uuid, gpu in by_uuid.items() if name and uuid.startswith(name)]
        gpu = gpus.get(name) or (matches[0] if matches else None)
        # CUDA ignores the first invalid entry and everything after it.
        if gpu is None:
            break
        allowed.append(Gpu(name=name, memory=gpu.memory, free_memory=gpu.free_memory))
    return tuple(allowed)
