"""Run the operator: `python -m interlock`."""

import asyncio
import logging
import socket
import sys

import kopf

from interlock.handlers import resources, startup
from interlock.runtime.app import App
from interlock.runtime.gc import tune_gc
from interlock.settings import OperatorSettings
from interlock.telemetry import configure_logs

_log = logging.getLogger("interlock")


async def run(settings: OperatorSettings) -> int:
    """Run until a signal ends it, or a part of it fails; return the exit code."""
    runtime = App(settings)
    registry = kopf.OperatorRegistry()
    startup.register(registry)
    resources.register(registry)
    runtime.start_kill_path()
    try:
        await kopf.operator(
            registry=registry,
            settings=startup.kopf_settings(),
            memo=runtime,
            clusterwide=True,
            standalone=True,
            # Without one kopf asks for the name of the user, and a container's numeric user has none. Its type is
            # a NewType of str that kopf does not export.
            identity=socket.gethostname(),  # type: ignore[arg-type]
            stop_flag=runtime.stopping,
        )
    except Exception as error:  # noqa: BLE001 - whatever ends the operator is told in one line
        _log.critical(str(error) or repr(error))
        return 1
    return 1 if runtime.failed else 0


def main() -> None:
    """Run the operator with the settings of the environment."""
    settings = OperatorSettings()
    configure_logs(settings.log_level)
    tune_gc()
    sys.exit(asyncio.run(run(settings)))


if __name__ == "__main__":
    main()
