"""A PostgreSQL server of the test's own, from the machine's programs, in a folder that goes with it."""

import getpass
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

_PLACES = ("/usr/lib/postgresql", "/usr/local/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin")
_SECONDS = 60
_ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def programs() -> Path | None:
    """Return the folder with initdb and postgres, wherever the distribution keeps it."""
    found = shutil.which("initdb")
    candidates = [Path(found).parent] if found else []
    for place in map(Path, _PLACES):
        candidates += [place, *sorted(place.glob("*/bin"), reverse=True)]
    is_whole = (folder for folder in candidates if (folder / "initdb").exists() and (folder / "postgres").exists())
    return next(is_whole, None)


@dataclass
class Postgresql:
    """One server."""

    programs: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=interlock dbname=postgres"

    def run(self, program: str, *arguments: str) -> None:
        with (self.folder / "output").open("a") as output:
            done = subprocess.run(
                [self.programs / program, *arguments],
                cwd=self.folder,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=_user(),
                timeout=_SECONDS,
                check=False,
            )
        assert done.returncode == 0, (self.folder / "output").read_text()

    def start(self) -> None:
        """Start it in this thread's name: it ends when the thread does."""
        address = ("listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=")
        options = [word for setting in (*address, "shared_buffers=16MB") for word in ("-c", setting)]
        with (self.folder / "log").open("a") as log:
            # Not by pg_ctl: a daemon has no parent that ends with the tests.
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *options],
                cwd=self.folder,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=_user(),
                preexec_fn=end_with_parent,
            )

    def wait(self) -> None:
        """Wait until it takes connections; the eighth line of its pid file says so (pg_ctl reads it, too)."""
        assert self.process is not None
        deadline = time.monotonic() + _SECONDS
        while not self._is_ready():
            is_too_late = self.process.poll() is not None or time.monotonic() > deadline
            assert not is_too_late, (self.folder / "log").read_text()
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return lines[:1] == [str(getattr(self.process, "pid", ""))] and lines[7:8] == ["ready   "]

    def crash(self) -> None:
        """End it without a checkpoint, as a crash does; every connection breaks."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(_SECONDS)


def _user() -> str | None:
    """Return as whom it runs: it refuses to run as root, and root has the right to run it as another user."""
    return "nobody" if getpass.getuser() == "root" else None


def run_postgresql(where: Path) -> Iterator[Postgresql]:
    """Run a server until the generator is closed."""
    with tempfile.TemporaryDirectory(prefix="interlock-postgresql-") as name:
        folder = Path(name)
        if user := _user():
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        server = Postgresql(where, folder, free_port())
        (folder / "output").touch()
        server.run("initdb", "-D", str(folder / "data"), "-U", "interlock", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            server.wait()
            yield server
        finally:
            server.crash()
