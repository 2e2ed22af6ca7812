"""Programs in the sandbox cannot reach the machine, and end within their limits."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from curation.verification.settings import SandboxSettings
from heirloom.errors import HeirloomError
from tasks.verification.sandbox import Execution, Program, Sandbox

pytestmark = pytest.mark.processes

SETTINGS = SandboxSettings(wall_seconds=3, cpu_seconds=2, memory_mb=256, files_mb=8, output_kb=64)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS) as opened:
        yield opened


def run(sandbox: Sandbox, source: str) -> Execution:
    return sandbox.run(Program(main="program.py", arguments=[], files={"program.py": source}))


def test_a_program_prints_and_returns_its_status(sandbox: Sandbox) -> None:
    execution = run(sandbox, "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)")
    assert (execution.outcome, execution.return_code) == ("finished", 3)
    assert (execution.stdout, execution.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        pytest.param("import socket; socket.create_connection(('1.1.1.1', 53), 1)", "OSError", id="network"),
        pytest.param("import socket; socket.create_connection(('127.0.0.1', 22), 1)", "Error", id="loopback"),
        pytest.param("import os; os.fork()", "PermissionError", id="fork"),
        pytest.param("import threading; threading.Thread(target=print).start()", "RuntimeError", id="thread"),
        pytest.param("import subprocess; subprocess.run(['true'])", "PermissionError", id="subprocess"),
        pytest.param("open('/etc/passwd').read()", "FileNotFoundError", id="system files"),
        pytest.param("open('/sandbox/program.py', 'w')", "OSError", id="own source"),
        pytest.param("open('/usr/bin/new', 'w')", "OSError", id="system folder"),
        pytest.param("open('/dev/new', 'w')", "OSError", id="device folder"),
        pytest.param("open('/proc/sys/kernel/hostname', 'w').write('x')", "OSError", id="kernel setting"),
        pytest.param("open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x')", "OSError", id="core pattern"),
        pytest.param("open('/proc/sysrq-trigger', 'w').write('h')", "Error", id="kernel request"),
        pytest.param("x = [bytearray(10**7) for _ in range(10**4)]", "MemoryError", id="memory"),
        pytest.param("for i in range(99): open(f'/tmp/{i}', 'w').write('x' * 10**6)", "OSError", id="many files"),
        pytest.param("open('/tmp/x', 'w').write('x' * 10**8)", "OSError", id="large file"),
        pytest.param(
            "for i in range(99): open(f'/dev/shm/{i}', 'w').write('x' * 10**6)", "OSError", id="shared memory"
        ),
        pytest.param("files = [open('/dev/null') for _ in range(1000)]", "OSError", id="open files"),
        pytest.param("import os; os.kill(-1, 9)", "ProcessLookupError", id="kill everything"),
        pytest.param("import os; os.setuid(1000)", "OSError", id="other user"),
        pytest.param("import os; os.chroot('/tmp')", "PermissionError", id="chroot"),
        pytest.param("import os; os.symlink('/', '/tmp/r'); open('/tmp/r/root/.bashrc')", "Error", id="symlink"),
        pytest.param("import os; os.listdir('/proc/1/root/home')", "Error", id="root of the init process"),
    ],
)
def test_an_attempt_to_leave_the_sandbox_is_an_error_of_the_program(sandbox: Sandbox, attempt: str, error: str) -> None:
    execution = run(sandbox, attempt)
    assert execution.return_code not in (0, None)
    assert error in execution.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        pytest.param("import time; time.sleep(60)", "timeout", id="sleep"),
        pytest.param("while True: print('x' * 1000)", "output", id="endless output"),
        pytest.param(
            "import signal, time\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)",
            "timeout",
            id="ignored signals",
        ),
    ],
)
def test_a_program_that_does_not_end_is_stopped(sandbox: Sandbox, program: str, outcome: str) -> None:
    execution = run(sandbox, program)
    assert execution.outcome == outcome
    assert execution.seconds < SETTINGS.wall_seconds + 2


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("while True: pass", id="processor time"),
        pytest.param("import ctypes; ctypes.string_at(0)", id="native crash"),
        pytest.param("import sys\nsys.setrecursionlimit(10**9)\nf = lambda: f()\nf()", id="deep recursion"),
    ],
)
def test_a_program_that_crashes_does_not_harm_the_parent(sandbox: Sandbox, program: str) -> None:
    execution = run(sandbox, program)
    assert execution.return_code != 0
    assert run(sandbox, "print('still here')").stdout == "still here\n"


def test_environment_and_home_of_the_user_are_invisible(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secrets.token_hex(8)
    monkeypatch.setenv("HEIRLOOM_TEST_SECRET", secret)
    execution = run(
        sandbox,
        "import os, glob\nprint(dict(os.environ))\n"
        "for path in glob.glob('/proc/*/environ'):\n"
        "    try: print(open(path, 'rb').read())\n"
        "    except OSError: pass\n"
        "print(sorted(os.listdir('/')))",
    )
    assert execution.return_code == 0
    assert secret not in execution.stdout
    assert "home" not in execution.stdout.splitlines()[-1]


def test_what_one_program_leaves_behind_is_not_seen_by_the_next(sandbox: Sandbox) -> None:
    assert run(sandbox, "open('/tmp/left', 'w').write('x')").return_code == 0
    assert run(sandbox, "import os; print(os.listdir('/tmp'))").stdout == "[]\n"


def test_no_process_remains_after_the_sandbox() -> None:
    with Sandbox(SETTINGS) as opened:
        run(opened, "import time; time.sleep(60)")
    names = [process.name() for process in psutil.Process().children(recursive=True)]
    assert "bwrap" not in names


def test_more_processes_than_one_are_refused_for_the_superuser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(HeirloomError, match=r"no limit of processes binds the superuser.*processes = 1"):
        Sandbox(SandboxSettings(processes=4))


def test_a_machine_without_bubblewrap_refuses_to_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with (
        pytest.raises(HeirloomError, match=r"cannot be isolated on this machine.*not executed without isolation"),
        Sandbox(SETTINGS),
    ):
        pass


_FORK_BOMB = """
import sys
sys.path[:0] = {path!r}
from curation.verification.settings import SandboxSettings
from tasks.verification.sandbox import Program, Sandbox
sleepers = (
    "import os, time\\nfor i in range(99):\\n    if os.fork() == 0: os._exit(time.sleep(1) or 0)"
)
bomb = "import os\\nwhile True:\\n    try: os.fork()\\n    except OSError: pass"
with Sandbox(SandboxSettings(wall_seconds=2, processes=8)) as sandbox:
    execution = sandbox.run(Program(main="p.py", arguments=[], files={{"p.py": bomb}}))
    count = sandbox.run(Program(main="p.py", arguments=[], files={{"p.py": sleepers}}))
print(execution.outcome, execution.seconds < 4, "BlockingIOError" in count.stderr)
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="needs the superuser to become another one"
)
def test_another_user_can_allow_processes_and_a_fork_bomb_stays_within_the_limit(tmp_path: Path) -> None:
    packages = [path for path in sys.path if path.endswith("site-packages")]
    script = _FORK_BOMB.format(path=[str(Path.cwd()), *packages])
    setpriv = shutil.which("setpriv")
    assert setpriv
    finished = subprocess.run(
        [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
    )
    assert finished.stdout.split() == ["timeout", "True", "True"], finished.stderr
