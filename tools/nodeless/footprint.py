"""What a private engine changes on the machine outside its own folder, and taking exactly that away again.

Before the first start the state of the machine is written down; what was there then is never touched. Of what came
later only that is taken away which bears the engine's mark: its bridge and what is plugged into it, its cgroup, mounts
below its folder, processes that carry its environment variable, packet filter rules that name its bridge or its chains.
"""

import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.machine.process import succeeds
from tools.nodeless import packetfilter

MARK = "INTERLOCK_ENGINE"
"""The environment variable that every process of the engine inherits; its value is the engine's folder."""
SYSCTLS = ("net/ipv4/ip_forward", "kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom")
"""Global settings that an engine or a kubelet changes."""
FOLDERS = ("/lib/modules", "/run/containerd", "/run/docker")
"""Folders outside its own that an engine may make."""
END_SECONDS = 10.0
_SYS_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Footprint:
    """The machine before the engine."""

    boot: str
    filter_rules: dict[str, dict[str, list[str]]]
    nft_tables: list[str]
    sysctls: dict[str, str]
    folders: list[str]

    def to_json(self) -> str:
        """Return the text of the engine's `before.json`."""
        return json.dumps(asdict(self), indent=1)


def observe() -> Footprint:
    """Return the machine as it is now."""
    return Footprint(
        boot=boot_id(),
        filter_rules={command: packetfilter.rules(command) for command in packetfilter.COMMANDS},
        nft_tables=packetfilter.nft_tables(),
        sysctls={name: value for name in SYSCTLS if (value := _read(Path("/proc/sys") / name))},
        folders=[folder for folder in FOLDERS if Path(folder).exists()],
    )


def load(file: Path) -> Footprint | None:
    """Return what was written down, or None after a restart of the machine, which leaves nothing of the engine."""
    try:
        footprint = Footprint(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return footprint if footprint.boot == boot_id() else None


def boot_id() -> str:
    """Return the identity of this boot, which differs after every start of the machine."""
    return _read(Path("/proc/sys/kernel/random/boot_id"))


def bridge(folder: Path) -> str:
    """Return the name of the engine's bridge, which no other engine has."""
    return f"ilk-{_digest(folder)}"


def cgroup(folder: Path) -> str:
    """Return the name of the engine's cgroup, which no other engine has."""
    return f"interlock-{_digest(folder)}"


def _digest(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:8]


def clean(folder: Path, before: Footprint | None) -> None:
    """Remove what is left of the engine that lived in folder.

    Where another engine runs by now, what the two may share is left to it: chains, global settings, folders.
    """
    end_processes(folder)
    unmount(folder)
    remove_links(folder)
    alone = not engines()
    if before is not None:
        packetfilter.remove_ours(before.filter_rules, before.nft_tables, bridge(folder), chains=alone)
    remove_cgroups(folder)
    if before is not None and alone:
        _restore_sysctls(before.sysctls)
        _remove_folders(before.folders)


def engines() -> list[int]:
    """Return every Docker engine's living process on this machine."""
    found = [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/comm") if _read(file) == "dockerd"]
    return [pid for pid in found if not _is_zombie(pid)]


def processes(folder: Path) -> list[int]:
    """Return the living processes of the engine: those with its mark and those in its containers' cgroup."""
    mark = f"{MARK}={folder}".encode()
    found = set(_cgroup_processes(folder))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:
            continue
    return sorted(pid for pid in found if not _is_zombie(pid))


def end_processes(folder: Path) -> None:
    """Kill all of them and wait until they are gone."""
    deadline = time.monotonic() + END_SECONDS
    while (left := processes(folder)) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points at or below folder, innermost first."""
    points = [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), line.split()[4])
              for line in mountinfo.splitlines()]  # fmt: skip
    ours = [point for point in points if point == str(folder) or point.startswith(f"{folder}/")]
    return sorted(ours, key=len, reverse=True)


def unmount(folder: Path) -> None:
    """Unmount everything below folder; a network namespace kept by a mount ends with it."""
    for point in mounts_below(folder, Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
        succeeds(["umount", "-l", point])


def remove_links(folder: Path) -> None:
    """Delete the engine's bridge and every device that is plugged into it."""
    device = Path("/sys/class/net") / bridge(folder)
    if not device.exists():
        return
    for port in sorted(device.glob("brif/*")):
        succeeds(["ip", "link", "delete", port.name])
    succeeds(["ip", "link", "delete", device.name])


def cgroup_folders(folder: Path) -> list[Path]:
    """Return the engine's cgroup in every hierarchy."""
    name = cgroup(folder)
    return [path for path in (_SYS_CGROUP / name, *_SYS_CGROUP.glob(f"*/{name}")) if path.is_dir()]


def remove_cgroups(folder: Path) -> None:
    """Remove the cgroups; their last processes may take a moment to leave."""
    deadline = time.monotonic() + END_SECONDS
    while (folders := cgroup_folders(folder)) and time.monotonic() < deadline:
        for top in folders:
            for path, _, _ in os.walk(top, topdown=False):
                _try_rmdir(Path(path))
        time.sleep(0.05)


def _cgroup_processes(folder: Path) -> Iterable[int]:
    for top in cgroup_folders(folder):
        for path, _, _ in os.walk(top):
            for word in _read(Path(path) / "cgroup.procs").split():
                yield int(word)


def _is_zombie(pid: int) -> bool:
    text = _read(Path(f"/proc/{pid}/stat"))
    return not text or text.rpartition(")")[2].split()[0] in {"Z", "X"}


def _restore_sysctls(before: dict[str, str]) -> None:
    for name, value in before.items():
        file = Path("/proc/sys") / name
        if _read(file) != value:
            file.write_text(value, encoding="ascii")


def _remove_folders(before: Sequence[str]) -> None:
    for name in FOLDERS:
        folder = Path(name)
        if name in before or not folder.is_dir():
            continue
        for path, _, files in os.walk(folder, topdown=False):
            for file in files:
                if (Path(path) / file).is_socket():
                    (Path(path) / file).unlink(missing_ok=True)
            _try_rmdir(Path(path))


def _try_rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
