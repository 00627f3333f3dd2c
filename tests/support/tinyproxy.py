"""Tinyproxy, a real egress proxy: the machine's own, or Debian's package unpacked into a folder."""

import shutil
import subprocess
from pathlib import Path

_SECONDS = 60
_PROGRAM = Path("usr/bin/tinyproxy")


def find_tinyproxy(folder: Path) -> Path | None:
    """Return the program, None where there is none and no package can be had.

    Args:
        folder: Where a package may be unpacked.
    """
    found = shutil.which("tinyproxy")
    if found is not None:
        return Path(found)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    try:
        subprocess.run(
            ["apt-get", "download", "tinyproxy-bin"], cwd=folder, check=True, capture_output=True, timeout=_SECONDS
        )
        (package,) = folder.glob("tinyproxy-bin_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True, capture_output=True, timeout=_SECONDS)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None
    return folder / _PROGRAM if (folder / _PROGRAM).exists() else None


def write_configuration(folder: Path, port: int, target: int) -> Path:
    """Write what the program needs in order to tunnel to one port; return the file."""
    path = folder / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Allow 127.0.0.1", f"ConnectPort {target}", "MaxClients 20"]
    path.write_text("\n".join([*lines, f'LogFile "{folder / "log"}"', "LogLevel Connect", ""]))
    return path
