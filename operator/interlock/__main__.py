"""The operator's program: `python -m interlock`."""

import asyncio
import logging
import socket
import sys

import kopf

from interlock.handlers import resources, startup
from interlock.runtime.app import App
from interlock.runtime.gc import tune_gc
from interlock.runtime.price_file import PriceBookMissing
from interlock.settings import OperatorSettings
from interlock_kube.credentials import CredentialsUnavailable
from interlock_process.logs import configure_logs

_log = logging.getLogger("interlock")


async def run(settings: OperatorSettings) -> int:
    """Run until a signal, or until a part of the operator fails; return the exit code."""
    try:
        app = App(settings)
    except (CredentialsUnavailable, PriceBookMissing) as error:
        _log.critical(str(error))
        return 1
    registry = kopf.OperatorRegistry()
    startup.register(registry)
    resources.register(registry)
    app.start_watching()
    try:
        await kopf.operator(
            registry=registry,
            settings=startup.kopf_settings(),
            memo=app,
            clusterwide=True,
            standalone=True,
            # Without an identity kopf looks up the name of the user, and a container's numeric user has none. The type
            # is a NewType of str that kopf does not export.
            identity=socket.gethostname(),  # type: ignore[arg-type]
            stop_flag=app.stopping,
        )
    except Exception as error:  # noqa: BLE001 - every failure to start is logged in one line
        _log.critical(str(error) or repr(error))
        return 1
    finally:
        await app.stop()  # kopf's own clean-up has done so, unless kopf could not start
    return 1 if app.failed else 0


def main() -> None:
    """Run the operator with the settings of the environment."""
    settings = OperatorSettings()
    configure_logs(settings.log_level)
    tune_gc()
    sys.exit(asyncio.run(run(settings)))


if __name__ == "__main__":
    main()
