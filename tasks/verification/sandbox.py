"""Execute programs that a model wrote, isolated by bubblewrap and within limits.

The sandbox is `llm_sandbox`'s: new namespaces without network, a read-only system, no capability, a list of refused
system calls, and limits of each process. Added here are a limit of the number of processes, with which the limit of
memory bounds the whole, and of what is written, which goes to memory of a bounded size. A program cannot change its
files.
"""

import contextlib
import importlib.metadata
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Self

from llm_sandbox.bubblewrap import BubblewrapSession
from llm_sandbox.exceptions import SandboxError, SandboxTimeoutError
from llm_sandbox.local.config import DEFAULT_READ_ONLY_PATHS, LocalSandboxConfig
from llm_sandbox.security.seccomp import DEFAULT_BLOCKED_SYSCALLS, SeccompPolicy

from curation.verification.settings import SandboxSettings
from heirloom.errors import HeirloomError

Outcome = Literal["finished", "timeout", "output"]
"""How an execution ended: by itself, or by the limit of time or output. Other limits show as errors of the program."""

_MB = 2**20
_WORK, _LINK, _PACKAGES = "/sandbox", "/link", "/packages"
PYTHON = os.path.realpath(sys.executable)
"""The interpreter in the sandbox: that of this process, without its packages."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What one program did."""

    outcome: Outcome
    return_code: int | None
    stdout: str
    stderr: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Program:
    """A Python program: the file to run, its arguments, and all its files by name."""

    main: str
    arguments: Sequence[str]
    files: Mapping[str, str]


class Sandbox:
    """Two isolated places, so that a program can be tested by another one that it cannot touch.

    Both are created once and used for any number of executions, one at a time; every execution gets new namespaces, so
    nothing that one leaves behind is seen by the next.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        """Prepare a sandbox.

        Raises:
            HeirloomError: this machine cannot isolate programs as the settings ask.
        """
        if settings.processes > 1 and os.geteuid() == 0:
            raise HeirloomError(
                f"verify.sandbox.processes is {settings.processes}, and no limit of processes binds the superuser. "
                "Run as another user, or set verify.sandbox.processes = 1"
            )
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="heirloom-sandbox-")))
        self._folder.chmod(0o700)

    def __enter__(self) -> Self:
        """Start both places."""
        link = self._folder / "link"
        link.mkdir()
        try:
            self._places = tuple(self._stack.enter_context(_Place(self._settings, link)) for _ in range(2))
        except Exception as error:
            self._stack.close()
            raise HeirloomError(
                f"Programs cannot be isolated on this machine: {error}. Install bubblewrap and libseccomp2 (`apt "
                "install bubblewrap libseccomp2`) and allow user namespaces (`sysctl "
                "kernel.unprivileged_userns_clone=1`); text that a model wrote is not executed without isolation"
            ) from error
        self._pool = self._stack.enter_context(ThreadPoolExecutor(2))
        return self

    def __exit__(self, *_: object) -> None:
        """Remove both places."""
        self._stack.close()

    def run(self, program: Program) -> Execution:
        """Run one program alone."""
        return self._places[0].run(program)

    def run_pair(self, first: Program, second: Program) -> tuple[Execution, Execution]:
        """Run two programs at the same time, joined by the named pipes `CALLS` and `RESULTS`; the second waits."""
        for pipe in (CALLS, RESULTS):
            path = self._folder / "link" / Path(pipe).name
            path.unlink(missing_ok=True)
            os.mkfifo(path)
        running = self._pool.submit(self._places[0].run, first)
        done = self._places[1].run(second)
        # Without its partner the first program would wait until its time limit.
        self._places[0].stop()
        return running.result(), done


CALLS, RESULTS = f"{_LINK}/calls", f"{_LINK}/results"
"""Named pipes that the two programs of a pair share."""


class _Place:
    """One isolated place with its files."""

    def __init__(self, settings: SandboxSettings, link: Path) -> None:
        self._settings = settings
        self._session = _BoundedSession(settings, link)

    def __enter__(self) -> Self:
        self._session.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def run(self, program: Program) -> Execution:
        """Run one program; files of an earlier one are removed first."""
        for path in self._session.workspace.iterdir():
            path.unlink() if path.is_file() else shutil.rmtree(path)
        for name, content in program.files.items():
            (self._session.workspace / name).write_text(content, encoding="utf-8", errors="replace")
        return self._session.execute([PYTHON, "-E", "-s", "-S", "-B", f"{_WORK}/{program.main}", *program.arguments])

    def stop(self) -> None:
        """Kill the running program, if any."""
        self._session.kill()


class _BoundedSession(BubblewrapSession):
    """A session of `llm_sandbox` whose processes, memory and files are bounded as a whole."""

    def __init__(self, settings: SandboxSettings, link: Path) -> None:
        self._settings, self._link = settings, link
        super().__init__(
            sandbox_config=LocalSandboxConfig(
                read_only_paths=(*DEFAULT_READ_ONLY_PATHS, sys.base_prefix),
                python_executable=PYTHON,
                env={"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"},  # noqa: S108  (a path inside the sandbox)
                max_output_bytes=settings.output_kb * 1024,
                memory_limit_bytes=settings.memory_mb * _MB,
                cpu_time_limit=settings.cpu_seconds,
                file_size_limit=settings.files_mb * _MB,
                open_files_limit=64,
                seccomp=SeccompPolicy(blocked_syscalls=(*DEFAULT_BLOCKED_SYSCALLS, *_forbidden_calls(settings))),
            ),
            workdir=_WORK,
            skip_environment_setup=True,
            default_timeout=settings.wall_seconds,
            encoding_errors="replace",
        )

    def execute(self, arguments: Sequence[str]) -> Execution:
        """Run a command line, and say how it ended. No other command may run in this session."""
        # Set inside the sandbox, where the limit counts the processes of its own user namespace, the init among them.
        count = self._settings.processes + 1
        command = shlex.join(["prlimit", f"--nproc={count}:{count}", "--", *arguments])
        started = time.monotonic()
        outcome: Outcome = "finished"
        output, code = ("", ""), None
        try:
            console = self.execute_command(command)
            output, code = (console.stdout, console.stderr), console.exit_code
        except SandboxTimeoutError:
            outcome = "timeout"
        except SandboxError as error:
            outcome, output = "output", ("", str(error))
        return Execution(
            outcome=outcome,
            return_code=code,
            stdout=output[0],
            stderr=output[1],
            seconds=time.monotonic() - started,
        )

    def kill(self) -> None:
        """Kill the running command with all its processes, if any runs."""
        with self._process_lock:
            if self._active_process is not None:
                # The death of the launcher ends the process namespace.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._active_process.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def _launch_command(self, command: str, workdir: str) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        # The shell is replaced, since a program that may be one process has none left for a shell.
        with super()._launch_command(f"exec {command}", workdir) as (launcher, descriptors):
            yield self._bound_files(launcher), descriptors

    def _bound_files(self, launcher: list[str]) -> list[str]:
        """Let programs write to memory of a bounded size only, and read what else they need."""
        in_memory = ["--size", str(self._settings.files_mb * _MB), "--tmpfs"]
        replaced = {
            ("--bind", str(self.tempdir), "/tmp"): [*in_memory, "/tmp"],  # noqa: S108
            ("--bind", str(self.workspace), _WORK): ["--ro-bind", str(self.workspace), _WORK],
            ("--dev", "/dev"): ["--dev", "/dev", "--remount-ro", "/dev", *in_memory, "/dev/shm"],  # noqa: S108
            # The superuser owns the kernel's settings there, and needs no capability to change what it owns.
            ("--proc", "/proc"): ["--proc", "/proc", "--remount-ro", "/proc"],
        }
        bounded = launcher
        for before, after in replaced.items():
            bounded = _replace(bounded, list(before), after)
        readable = ["--ro-bind", str(self._link), _LINK]
        for path in _package_files("duckdb"):
            readable += ["--ro-bind", str(path), f"{_PACKAGES}/{path.name}"]
        place = bounded.index("--chdir")
        return [*bounded[:place], *readable, *bounded[place:]]


def _forbidden_calls(settings: SandboxSettings) -> tuple[str, ...]:
    """System calls that start a process or a thread, if a program may be one process only."""
    return ("fork", "vfork", "clone", "clone3") if settings.processes == 1 else ()


@cache
def _package_files(name: str) -> tuple[Path, ...]:
    """Return the files and folders of an installed distribution, by which programs can import it."""
    distribution = importlib.metadata.distribution(name)
    names = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    return tuple(Path(str(distribution.locate_file(top))) for top in sorted(names))


def _replace(arguments: list[str], before: list[str], after: list[str]) -> list[str]:
    """Replace one run of arguments.

    Raises:
        RuntimeError: it is not there once; another version of the library builds another command line.
    """
    width = len(before)
    places = [place for place in range(len(arguments)) if arguments[place : place + width] == before]
    if len(places) != 1:
        raise RuntimeError(
            f"llm-sandbox builds another command line than expected: {before} is there {len(places)} times"
        )
    return [*arguments[: places[0]], *after, *arguments[places[0] + width :]]
