"""A PostgreSQL of one's own: a database cluster in a folder, started from the programs that are installed."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


def programs() -> Path | None:
    """Folder of `initdb` and `pg_ctl`: on the path, or where Debian puts the newest one; None where there is none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(installed, key=lambda path: int(path.parent.name), default=None)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass(frozen=True)
class Postgres:
    """A running cluster with a database `prefect`."""

    folder: Path
    port: int

    @property
    def address(self) -> str:
        """As Prefect's server wants it."""
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/prefect"

    def control(self, *words: str) -> None:
        """Run `pg_ctl` and wait for it: `start`, `restart -m fast`, `stop -m immediate`."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.folder / "log")
        self.run("pg_ctl", *words, "-w", "-t", "120", "-D", str(self.folder / "data"), "-l", log, "-o", options)

    def run(self, program: str, *words: str) -> None:
        """Run one of its programs as its owner.

        Raises:
            CalledProcessError: it failed.
        """
        place = programs()
        assert place is not None
        # It refuses to run as root.
        owner = {"user": "postgres"} if os.geteuid() == 0 else {}
        subprocess.run(  # type: ignore[call-overload]
            [place / program, *words],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            **owner,
        )


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A new cluster, gone with the block.

    Raises:
        FileNotFoundError: no PostgreSQL is installed.
    """
    if programs() is None:
        raise FileNotFoundError("no PostgreSQL is installed; on Debian: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="heirloom-postgres-"))
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    cluster = Postgres(folder, free_port())
    try:
        cluster.run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "prefect", "-E", "UTF8", "-N")
        cluster.control("start")
        cluster.run("createdb", "-h", "127.0.0.1", "-p", str(cluster.port), "-U", "prefect", "prefect")
        yield cluster
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            cluster.control("stop", "-m", "immediate")
        shutil.rmtree(folder, ignore_errors=True)
