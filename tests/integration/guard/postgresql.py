"""A PostgreSQL server of the test's own, from the machine's programs, in a folder that goes with it."""

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration.guard.harness import free_port

_PLACES = ("/usr/lib/postgresql", "/usr/local/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin")
_SECONDS = 60


def programs() -> Path | None:
    """Return the folder with initdb and pg_ctl, wherever the distribution keeps it."""
    found = shutil.which("initdb")
    candidates = [Path(found).parent] if found else []
    for place in map(Path, _PLACES):
        candidates += [place, *sorted(place.glob("*/bin"), reverse=True)]
    is_whole = (folder for folder in candidates if (folder / "initdb").exists() and (folder / "pg_ctl").exists())
    return next(is_whole, None)


@dataclass
class Postgresql:
    """One server."""

    programs: Path
    folder: Path
    port: int

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=interlock dbname=postgres"

    def run(self, program: str, *arguments: str) -> None:
        # It refuses to run as root; root has the right to run it as somebody else.
        user = "nobody" if getpass.getuser() == "root" else None
        with (self.folder / "output").open("a") as output:
            done = subprocess.run(
                [self.programs / program, *arguments],
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=user,
                timeout=_SECONDS,
                check=False,
            )
        assert done.returncode == 0, (self.folder / "output").read_text()

    def control(self, action: str, *more: str) -> None:
        data = str(self.folder / "data")
        self.run("pg_ctl", action, "-w", "-t", str(_SECONDS), "-D", data, "-l", str(self.folder / "log"), *more)

    def start(self) -> None:
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c shared_buffers=16MB"
        )
        self.control("start", "-o", options)

    def crash(self) -> None:
        """End it without a checkpoint, as a crash does; every connection breaks."""
        self.control("stop", "-m", "immediate")


def run_postgresql(where: Path) -> Iterator[Postgresql]:
    """Run a server until the generator is closed."""
    with tempfile.TemporaryDirectory(prefix="interlock-postgresql-") as name:
        folder = Path(name)
        if getpass.getuser() == "root":
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        server = Postgresql(where, folder, free_port())
        (folder / "output").touch()
        server.run("initdb", "-D", str(folder / "data"), "-U", "interlock", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.crash()
