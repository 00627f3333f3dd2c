"""A Docker engine of our own, from the distribution's package. No other engine may run next to it.

Its data, sockets, process id and log lie in one folder of the cache. Its containers live in a cgroup and on a bridge of
their own, so that everything of it can be told from everything else, also after it was killed.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tools.machine.errors import StepFailedError, UnavailableError
from tools.machine.process import say, succeeds
from tools.machine.settings import Settings
from tools.nodeless import debian, footprint, private_runtime

START_SECONDS = 60.0
STOP_SECONDS = 30.0
NETWORK = "kind"
"""The network that the kind program uses; made here first, so that its bridge has a name of ours."""
SOCKET_PATH_MAX = 80
"""A socket's path may have 107 characters, and the engine puts some more into its folder."""
PACKAGES = {
    "dockerd": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "nft": "nftables",
    "umount": "mount",
}


def folder(settings: Settings) -> Path:
    """Return the folder of everything of the engine but its sockets."""
    return settings.private_engine


def _run_folder(settings: Settings) -> Path:
    own = folder(settings) / "run"
    if len(str(own)) <= SOCKET_PATH_MAX:
        return own
    return Path("/run") / f"interlock-{hashlib.sha256(str(own).encode()).hexdigest()[:8]}"


def address(settings: Settings) -> str:
    """Return the value of DOCKER_HOST that reaches the engine."""
    return f"unix://{_run_folder(settings)}/docker.sock"


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables with which docker and kind use this engine and no other."""
    return {"DOCKER_HOST": address(settings), "DOCKER_CONTEXT": "", "DOCKER_CONFIG": str(folder(settings) / "config")}


def is_running(settings: Settings) -> bool:
    """Return True if it answers."""
    if not (_run_folder(settings) / "docker.sock").exists():
        return False
    return succeeds(["docker", "info"], env=environment(settings), timeout=20)


def impossible() -> str | None:
    """Return the message that says why no private engine can run here, or None if one can."""
    if not debian.can_install():
        return (
            "no Docker engine answers, and starting a private one needs root on Debian or Ubuntu; "
            "all tests but those marked `kind` run all the same"
        )
    return None


def has_crashed(settings: Settings) -> bool:
    """Return True if it was started, was not stopped, and does not answer."""
    return (folder(settings) / "before.json").exists() and not is_running(settings)


def has_containers(settings: Settings) -> bool:
    """Return True if its data still holds containers, running or not."""
    return any((folder(settings) / "data" / "containers").glob("*"))


def start(settings: Settings) -> None:
    """Start the engine and wait until it answers; after a crash its containers come back with it.

    Raises:
        UnavailableError: not possible here, or another engine lives here.
        StepFailedError: it did not come up.
    """
    if reason := impossible():
        raise UnavailableError(reason)
    log = settings.logs / "engine-packages.log"
    _refuse_next_to_another(settings)
    say(announcement(settings))
    debian.need(PACKAGES, log)
    if shutil.which("docker") is None:  # newer Debian has it in a package of its own
        debian.install(["docker-cli"], log)
    _record_footprint(settings)
    # Where forwarding is off, an engine turns it on and sets the FORWARD policy to DROP, which cuts off other bridges.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    _write_configuration(settings)
    _launch(settings)
    _make_network(settings)


def announcement(settings: Settings) -> str:
    """Return the paragraph that says what a start does to this machine, and how to take all of it back."""
    packages = debian.missing(PACKAGES)
    install = f"installs the packages {', '.join(packages)} with apt-get, " if packages else ""
    remove = f"; `apt-get purge {' '.join(packages)}` removes the packages" if packages else ""
    return (
        f"engine: no Docker engine answers here. This command {install}starts a Docker engine of its own whose data "
        f"is in {folder(settings)}, turns on IPv4 forwarding (net.ipv4.ip_forward), and lets that engine add a "
        "bridge, a cgroup and its own iptables chains. Where no image registry answers, packages to build with "
        "follow, each named before it is installed. To take it back: `make demo-down` ends the engine and restores "
        f"forwarding and packet filters; `python -m tools.cluster prune` deletes {settings.cache} too{remove}."
    )


def stop(settings: Settings) -> None:
    """Stop the engine, alive or crashed, and remove what it left on the machine; its data stays."""
    own = folder(settings)
    record = own / "before.json"
    if not record.exists():
        return
    _end_gently(settings)
    footprint.clean(own, footprint.load(record))
    run_folder = _run_folder(settings)
    footprint.unmount(run_folder)
    shutil.rmtree(run_folder, ignore_errors=True)
    record.unlink(missing_ok=True)


def _end_gently(settings: Settings) -> None:
    try:
        pid = int((_run_folder(settings) / "docker.pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    if pid not in footprint.processes(folder(settings)):
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while pid in footprint.processes(folder(settings)) and time.monotonic() < deadline:
        time.sleep(0.1)


def _refuse_next_to_another(settings: Settings) -> None:
    ours = footprint.processes(folder(settings))
    others = [pid for pid in footprint.engines() if pid not in ours]
    if others:
        raise UnavailableError(
            f"another Docker engine runs here (process {others[0]}) but does not answer this user; "
            "set DOCKER_HOST to its address, since two engines would share one set of packet filter chains"
        )


def _record_footprint(settings: Settings) -> None:
    record = folder(settings) / "before.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    if record.exists() and footprint.load(record) is not None:
        return  # it crashed: what it changed then is still to be undone
    record.write_text(footprint.observe().to_json(), encoding="utf-8")


def _write_configuration(settings: Settings) -> None:
    own, run_folder = folder(settings), _run_folder(settings)
    for path in (own / "data", own / "config", run_folder):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    configuration: dict[str, object] = {
        "data-root": str(own / "data"),
        "exec-root": str(run_folder / "exec"),
        "pidfile": str(run_folder / "docker.pid"),
        "hosts": [address(settings)],
        "bridge": "none",  # containers of ours are on the kind network, builds on the machine's own
        "cgroup-parent": f"/{footprint.cgroup(own)}",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],  # the systemd driver would put them elsewhere
    }
    if private_runtime.is_needed():
        configuration["runtimes"] = {"without-sys-resource": {"path": str(_install_runtime(own))}}
        configuration["default-runtime"] = "without-sys-resource"
    (own / "daemon.json").write_text(json.dumps(configuration, indent=1), encoding="utf-8")


def _install_runtime(own: Path) -> Path:
    program = own / "runc-without-sys-resource"
    source = Path(private_runtime.__file__).read_text(encoding="utf-8")
    interpreter = Path(sys.executable).resolve()
    program.write_text(f"#!{interpreter} -IS\n{source}", encoding="utf-8")
    program.chmod(0o755)
    return program


def _launch(settings: Settings) -> None:
    own = folder(settings)
    log = own / "dockerd.log"
    environ = {**os.environ, footprint.MARK: str(own)}
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            ["dockerd", "--config-file", str(own / "daemon.json")],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environ, start_new_session=True,
        )  # fmt: skip
    # Reaped while we live, and never a warning that it outlives us: it is meant to.
    threading.Thread(target=process.wait, name="reap-dockerd", daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if is_running(settings):
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    said = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
    stop(settings)
    raise StepFailedError("starting the private Docker engine", said, log, "Run the same command again.")


def _make_network(settings: Settings) -> None:
    env = environment(settings)
    if succeeds(["docker", "network", "inspect", NETWORK], env=env):
        return
    options = ["--driver", "bridge", "--opt", f"com.docker.network.bridge.name={footprint.bridge(folder(settings))}"]
    if not succeeds(["docker", "network", "create", *options, NETWORK], env=env):
        stop(settings)
        raise StepFailedError(
            "making the cluster's network", "docker network create failed", folder(settings) / "dockerd.log"
        )
