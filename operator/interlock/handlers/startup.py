"""kopf's settings, its credentials, and the start and stop of the operator's own parts."""

from typing import Any

import kopf

from interlock.cluster.kubernetes_version import KubernetesTooOld
from interlock.cluster.operator_key import OperatorKeyUnusable
from interlock.handlers.metadata_session import MetadataSession, open_session
from interlock.runtime.app import App
from interlock_contract.names import GROUP, OPERATOR_ACCOUNT
from interlock_kube.client import ApiError
from interlock_kube.credentials import CredentialsUnavailable
from interlock_kube.retry import retry_until_available
from interlock_process.own_account import WrongAccount, check_account

LOGIN_RETRY_SECONDS = 5.0
PAGE = 10
"""Most objects of one page of kopf's lists."""


def register(registry: kopf.OperatorRegistry) -> None:
    """Register start, stop and login."""
    kopf.on.startup(registry=registry)(start)
    kopf.on.cleanup(registry=registry)(stop)
    kopf.on.login(registry=registry)(login)


def kopf_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: short back-offs, a bound on silent streams, and Interlock's names."""
    settings = kopf.OperatorSettings()
    settings.watching.server_timeout, settings.watching.client_timeout = 300, 330
    # kopf lists all objects in one answer by default. An expired `continue` token (410) ends kopf's watch for good; the
    # second watch notices, and the operator restarts. That takes a list of more than five minutes. A page is read as
    # metadata, of which each object can have megabytes.
    settings.watching.chunk_size = PAGE
    settings.watching.inactivity_timeout = 70  # the API server sends a bookmark about once a minute
    settings.networking.request_timeout, settings.networking.connect_timeout = 10, 5
    settings.networking.error_backoffs = [0.5, 1, 2, 4]
    settings.queueing.error_delays = [1, 2, 5, 10]  # by default up to 610 s, in which events are skipped
    settings.execution.default_backoff = 5
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.posting.enabled = False  # the operator posts Events of transitions; kopf's would be about handler calls
    return settings


async def start(memo: App, **_: Any) -> None:
    """Start the operator's own parts before kopf watches anything; a failure ends the process with one sentence."""
    try:
        check_account(await retry_until_available(memo.credentials.current), OPERATOR_ACCOUNT)
        await memo.start()
    except (KubernetesTooOld, OperatorKeyUnusable, WrongAccount, ApiError) as error:
        raise kopf.PermanentError(str(error)) from error


async def stop(memo: App, **_: Any) -> None:
    """Stop the operator's own parts."""
    await memo.stop()


async def login(memo: App, **_: Any) -> MetadataSession:
    """Return a session with the credentials that the operator's own client uses, for kopf's client, which closes it.

    kopf asks when it starts, when the credentials expire, and when the API server has refused them. In the last case it
    accepts only others than before. So every call renews them, which costs one more run of an exec plugin at the start.

    Raises:
        kopf.TemporaryError: There are no credentials at the moment; kopf asks again.
    """
    try:
        access = await memo.credentials.renew(await memo.credentials.current())
    except CredentialsUnavailable as error:
        raise kopf.TemporaryError(str(error), delay=LOGIN_RETRY_SECONDS) from error
    return open_session(access)
