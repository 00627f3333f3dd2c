"""`python -m interlock_guard verify`: verify the server of one binding, write the result, end.

`python -m interlock_guard pipes` comes before it, where the server is one on pipes: it makes them.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_contract import pod
from interlock_contract.bundle import BUNDLE_KEY, BundleSource, parse_bundle
from interlock_contract.environment import SettingsInvalid, read_api_server, require
from interlock_contract.names import VERIFIER_FIELD_MANAGER
from interlock_contract.strict_fields import BundleInvalid
from interlock_contract.verification import (
    PLAN_KEY,
    RESULT_KEY,
    VerificationInvalid,
    VerificationResult,
    dump_result,
    parse_plan,
)
from interlock_guard.upstream.pipes import PipePair
from interlock_guard.upstream.sources import build_upstream
from interlock_guard.upstream.upstream import Upstream
from interlock_guard.verification.verifier import NullListener, verify
from interlock_kube.client import UNREACHABLE, ApiError, KubeClient
from interlock_kube.credentials import MountedCredentials

_WRITE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.5

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySettings:
    """Where the plan is, where the server is, and where the result goes."""

    plan: Path
    result: str
    api_server: str
    credentials: Path
    pipes: Path
    secrets: Path
    dialable: frozenset[str]


def read_verify_settings(environment: Mapping[str, str]) -> VerifySettings:
    """Read the settings; in a pod only the namespace and the name of the result are set.

    Raises:
        SettingsInvalid: A variable is missing or wrong.
    """
    namespace, name = require(environment, pod.NAMESPACE_VARIABLE), require(environment, pod.RESULT_VARIABLE)
    return VerifySettings(
        plan=Path(environment.get("INTERLOCK_PLAN", pod.CONFIG_PATH)),
        result=f"/api/v1/namespaces/{namespace}/configmaps/{name}",
        api_server=read_api_server(environment),
        credentials=Path(environment.get("INTERLOCK_CREDENTIALS", pod.TOKEN_PATH)),
        pipes=_pipes(environment),
        secrets=Path(environment.get("INTERLOCK_SECRETS", "/run/interlock/secrets")),
        dialable=frozenset(environment.get("INTERLOCK_DIALABLE", "").split()),
    )


async def make_pipes(environment: Mapping[str, str], log: Log) -> int:
    """Make the pipes of one source, so that its server can be started before the verifier; return the exit code."""
    try:
        source = require(environment, pod.SOURCE_VARIABLE)
    except SettingsInvalid as error:
        log(f"settings: {error}")
        return 2
    PipePair(_pipes(environment) / source).make()
    return 0


async def run(environment: Mapping[str, str], log: Log) -> int:
    """Verify and write the result; return the exit code, 0 once the result is written, whatever it is."""
    try:
        settings = read_verify_settings(environment)
        plan = parse_plan((settings.plan / PLAN_KEY).read_text())
        bundle = parse_bundle((settings.plan / BUNDLE_KEY).read_text())
    except (SettingsInvalid, VerificationInvalid, BundleInvalid, OSError) as error:
        log(f"nothing was verified: {error}")
        return 2

    def build(source: BundleSource, listener: NullListener) -> Upstream:
        return build_upstream(
            source,
            listener,
            log,
            pipes=settings.pipes,
            secrets=settings.secrets,
            dialable=settings.dialable,
            are_pipes_made=True,
        )

    result = await verify(plan, bundle, build)
    log(f"run {result.run}: {result.failure or 'verified'} {result.message}".rstrip())
    return 0 if await _write(settings, result, log) else 1


async def _write(settings: VerifySettings, result: VerificationResult, log: Log) -> bool:
    """Write the result, trying for 30 s; return whether it is written."""
    client = KubeClient(MountedCredentials(settings.api_server, settings.credentials))
    body = {"data": {RESULT_KEY: dump_result(result)}}
    try:
        async with asyncio.timeout(_WRITE_SECONDS):
            while True:
                try:
                    await client.patch(settings.result, body, VERIFIER_FIELD_MANAGER)
                except (ApiError, *UNREACHABLE, ValueError) as error:
                    log(f"result not written: {type(error).__name__}: {error}")
                else:
                    return True
                await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError:
        return False
    finally:
        await client.close()


def _pipes(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("INTERLOCK_PIPES", pod.PIPES_PATH))
