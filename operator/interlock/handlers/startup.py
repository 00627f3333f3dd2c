"""kopf's own settings, its credentials, and the start and stop of everything that is ours."""

import os
from typing import Any

import kopf

from interlock.cluster.api_server import KubernetesTooOld
from interlock.runtime.app import App
from interlock_contract.names import GROUP
from interlock_kube.client import ApiError


def register(registry: kopf.OperatorRegistry) -> None:
    """Register start, stop and login."""
    kopf.on.startup(registry=registry)(start)
    kopf.on.cleanup(registry=registry)(stop)
    kopf.on.login(registry=registry)(login)


def kopf_settings() -> kopf.OperatorSettings:
    """Return settings whose reasons are known: short back-offs, streams that cannot go silent, names of our own."""
    settings = kopf.OperatorSettings()
    settings.watching.server_timeout, settings.watching.client_timeout = 300, 330
    settings.watching.inactivity_timeout = 70  # the API server sends a bookmark about once a minute
    settings.networking.request_timeout, settings.networking.connect_timeout = 10, 5
    settings.networking.error_backoffs = [0.5, 1, 2, 4]
    settings.queueing.error_delays = [1, 2, 5, 10]  # by default up to 610 s, in which events are skipped
    settings.execution.default_backoff = 5
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.posting.enabled = False  # our Events tell transitions, kopf's would tell handler calls
    return settings


async def start(memo: App, **_: Any) -> None:
    """Start what is ours, before kopf watches anything; what fails here ends the process with one sentence."""
    try:
        await memo.start()
    except (KubernetesTooOld, ApiError) as error:
        raise kopf.PermanentError(str(error)) from error


async def stop(memo: App, **_: Any) -> None:
    """Stop what is ours."""
    await memo.stop()


def login(memo: App, **kwargs: Any) -> kopf.ConnectionInfo | None:
    """Return the credentials that the rest of the operator uses, too."""
    if memo.settings.kubeconfig is None:
        return kopf.login_with_service_account(**kwargs)
    os.environ["KUBECONFIG"] = str(memo.settings.kubeconfig)
    return kopf.login_with_kubeconfig(**kwargs)
