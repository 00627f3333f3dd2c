"""The kill controller's program: `python -m interlock_kill`.

Settings, all from the environment: INTERLOCK_KUBECONFIG, a kubeconfig (default: the pod's ServiceAccount);
INTERLOCK_TELEMETRY_PORT, where /healthz, /readyz and /metrics are served (8080); INTERLOCK_NAMESPACE, the namespace of
the Lease (interlock-system); INTERLOCK_LOG_LEVEL (INFO).
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import generate_latest

from interlock_contract.clock import monotonic, utc_now
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_contract.names import KILL_CONTROLLER_ACCOUNT, OPERATOR_NAMESPACE
from interlock_http.listener import BoundedListener
from interlock_http.probes import SHUTDOWN_SECONDS, build_probe_app
from interlock_kill.controller import KillController
from interlock_kill.lease import LeaseRenewer
from interlock_kube.background import keep_running
from interlock_kube.client import KubeClient
from interlock_kube.credentials import CredentialsUnavailable
from interlock_kube.metadata import parse_metadata
from interlock_process.credentials import find_credentials
from interlock_process.heartbeat import Heartbeat
from interlock_process.logs import configure_logs
from interlock_process.metrics import TASKS_ENDED, count_answer
from interlock_process.own_account import WrongAccount, check_account

_log = logging.getLogger("interlock_kill")

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class SettingInvalid(ValueError):  # noqa: N818 - says the state of a setting
    """A setting cannot be used; the message names the variable and its value."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of the program.

    Attributes:
        kubeconfig: A kubeconfig file; None in a pod.
        telemetry_port: A TCP port; 0 takes a free one.
        namespace: The namespace of the Lease.
        log_level: The lowest level that is logged.
    """

    kubeconfig: Path | None
    telemetry_port: int
    namespace: str
    log_level: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings from environment variables.

        Raises:
            SettingInvalid: A value cannot be used.
        """
        kubeconfig = environment.get("INTERLOCK_KUBECONFIG", "")
        port = environment.get("INTERLOCK_TELEMETRY_PORT", "8080")
        level = environment.get("INTERLOCK_LOG_LEVEL", "INFO")
        if not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the largest port
            raise SettingInvalid(f"INTERLOCK_TELEMETRY_PORT: {port!r} is no port: write a number from 0 to 65535")
        if level not in _LEVELS:
            raise SettingInvalid(f"INTERLOCK_LOG_LEVEL: {level!r} is no level: write one of {', '.join(_LEVELS)}")
        return cls(
            kubeconfig=Path(kubeconfig) if kubeconfig else None,
            telemetry_port=int(port),
            namespace=environment.get("INTERLOCK_NAMESPACE", OPERATOR_NAMESPACE),
            log_level=level,
        )


async def run(settings: Settings) -> int:
    """Run until a signal, or until a part fails; return the exit code."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        credentials = find_credentials(settings.kubeconfig)
        check_account(await credentials.current(), KILL_CONTROLLER_ACCOUNT)
    except (CredentialsUnavailable, WrongAccount) as error:
        _log.critical(str(error))
        return 1
    heartbeat = Heartbeat("the event loop")
    async with AsyncExitStack() as opened:
        client, watcher = (KubeClient(credentials, count_answer, parse=parse_metadata) for _ in range(2))
        opened.push_async_callback(client.close)
        opened.push_async_callback(watcher.close)
        controller = KillController(client, watcher, clock=utc_now, monotonic=monotonic)
        lease = LeaseRenewer(
            watcher,
            settings.namespace,
            socket.gethostname(),
            clock=utc_now,
            problem=controller.lease_problem,
        )
        listener = BoundedListener(LISTENERS[ListenerName.TELEMETRY])
        opened.push_async_callback(listener.close)
        app = build_probe_app(metrics=generate_latest, unready=controller.problem, unhealthy=heartbeat.problem)
        listener.build_app_runner(app, shutdown_timeout=SHUTDOWN_SECONDS)
        await listener.open(None, settings.telemetry_port)
        renewal = keep_running("renewal of the Lease", lease.run, _log.error)
        work = asyncio.gather(controller.run(), renewal, heartbeat.run())
        stop = asyncio.ensure_future(stopping.wait())
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            TASKS_ENDED.inc()
            _log.critical("the kill controller ended because of a defect of Interlock", exc_info=work.exception())
            return 1
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    return 0


def main() -> None:
    """Run the kill controller with the settings of the environment."""
    try:
        settings = Settings.read(os.environ)
    except SettingInvalid as error:
        sys.exit(str(error))
    configure_logs(settings.log_level)
    sys.exit(asyncio.run(run(settings)))


if __name__ == "__main__":
    main()
