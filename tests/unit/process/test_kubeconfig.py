"""One set of credentials for kopf and for the operator's own client: kubeconfigs with plugins and token files."""

import json
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from interlock.handlers import startup
from interlock_kube.credentials import CredentialsUnavailable, MountedCredentials
from interlock_process.credentials import find_credentials
from interlock_process.kubeconfig import KubeconfigCredentials
from tests.support.certificates import an_authority


def a_kubeconfig(folder: Path, user: dict[str, Any]) -> Path:
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": "https://api.example:6443/", "insecure-skip-tls-verify": True}}
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))
    return path


def a_plugin(folder: Path, *, lasts: timedelta | None = None) -> dict[str, Any]:
    """Return a user whose plugin gives a new token at each run, and counts its runs in a file."""
    script = folder / "plugin"
    ends = "" if lasts is None else (datetime.now(UTC) + lasts).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - real
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"runs = pathlib.Path({str(folder / 'runs')!r})\n"
        "count = len(runs.read_text()) + 1 if runs.exists() else 1\n"
        "runs.write_text('x' * count)\n"
        "status = {'token': f'token-{count}'}\n"
        f"ends = {ends!r}\n"
        "if ends: status['expirationTimestamp'] = ends\n"
        "print(json.dumps({'apiVersion': info['apiVersion'], 'kind': 'ExecCredential', 'status': status}))\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never"}
    }


async def kopf_login(credentials: Any) -> Any:
    """Return what kopf gets; its session is closed, and its headers can be read."""
    memo: Any = SimpleNamespace(credentials=credentials)
    info = await startup.login(memo)
    await info.aiohttp_session.close()
    return info


async def test_an_exec_plugin_runs_once_for_all_requests_and_again_when_its_token_was_refused(tmp_path: Path) -> None:
    credentials = KubeconfigCredentials(a_kubeconfig(tmp_path, a_plugin(tmp_path)))
    first = await credentials.current()
    assert (first.server, first.authorization) == ("https://api.example:6443", "Bearer token-1")
    assert await credentials.current() is first
    second = await credentials.renew(first)
    assert second.authorization == "Bearer token-2"
    assert await credentials.renew(first) is second  # another request with the same refused token


async def test_an_exec_plugin_runs_again_before_its_token_expires(tmp_path: Path) -> None:
    credentials = KubeconfigCredentials(a_kubeconfig(tmp_path, a_plugin(tmp_path, lasts=timedelta(seconds=20))))
    assert (await credentials.current()).authorization == "Bearer token-1"
    assert (await credentials.current()).authorization == "Bearer token-2"


async def test_kopf_gets_what_the_operators_client_gets_and_another_token_at_each_login(tmp_path: Path) -> None:
    credentials = KubeconfigCredentials(a_kubeconfig(tmp_path, a_plugin(tmp_path, lasts=timedelta(hours=1))))
    info = await kopf_login(credentials)
    access = await credentials.current()
    assert info.aiohttp_session.headers["Authorization"] == access.authorization
    assert (info.server, info.access, info.expiration) == (access.server, access, access.expires)
    assert await kopf_login(credentials) != info


async def test_kopf_knows_credentials_that_were_refused_in_a_new_session(tmp_path: Path) -> None:
    credentials = KubeconfigCredentials(a_kubeconfig(tmp_path, {"token": "one"}))
    first, second = await kopf_login(credentials), await kopf_login(credentials)
    assert first == second
    assert hash(first) == hash(second)
    assert first.aiohttp_session is not second.aiohttp_session


async def test_a_token_file_is_read_again_when_it_changes_for_kopf_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    credentials = KubeconfigCredentials(a_kubeconfig(tmp_path, {"tokenFile": "token"}))
    assert (await credentials.current()).authorization == "Bearer one"
    (tmp_path / "next").write_text("two\n")
    (tmp_path / "next").rename(tmp_path / "token")
    assert (await credentials.current()).authorization == "Bearer two"
    (tmp_path / "token").write_text("three\n")
    assert (await kopf_login(credentials)).access.authorization == "Bearer three"


async def test_a_kubeconfig_that_changes_is_read_again(tmp_path: Path) -> None:
    credentials = KubeconfigCredentials(a_kubeconfig(tmp_path, {"token": "one"}))
    assert (await credentials.current()).authorization == "Bearer one"
    a_kubeconfig(tmp_path, {"username": "me", "password": "secret"})
    assert (await credentials.current()).authorization == "Basic bWU6c2VjcmV0"
    assert (await kopf_login(credentials)).access.authorization == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize(
    "user", [{"exec": {"apiVersion": "v1", "command": "/no/such/plugin"}}, {"tokenFile": "absent"}]
)
async def test_a_user_without_credentials_is_reported_and_kopf_retries(user: dict[str, Any], tmp_path: Path) -> None:
    credentials = KubeconfigCredentials(a_kubeconfig(tmp_path, user))
    with pytest.raises(CredentialsUnavailable):
        await credentials.current()
    with pytest.raises(startup.kopf.TemporaryError):
        await kopf_login(credentials)


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({"current-context": "x"})])
async def test_what_is_no_kubeconfig_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(content)
    with pytest.raises(CredentialsUnavailable, match="kubeconfig"):
        await KubeconfigCredentials(tmp_path / "kubeconfig").current()


async def test_without_a_kubeconfig_the_pods_own_credentials_are_used_by_both(tmp_path: Path) -> None:
    assert isinstance(find_credentials(None), MountedCredentials)
    (tmp_path / "token").write_text("pod\n")
    (tmp_path / "ca.crt").write_bytes(an_authority().pem)
    info = await kopf_login(MountedCredentials("https://10.0.0.1:443", tmp_path))
    assert info.aiohttp_session.headers["Authorization"] == "Bearer pod"
    assert (info.server, info.access.ca_file) == ("https://10.0.0.1:443", str(tmp_path / "ca.crt"))


def test_kopf_lists_page_by_page() -> None:
    assert startup.kopf_settings().watching.chunk_size == startup.PAGE
