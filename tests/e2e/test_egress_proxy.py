"""An egress proxy on real pods: a guard in a pod of its own reaches a public provider through it, and only so."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.certificates import an_authority
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

AGENT, HOST = "writer", "llm.example.com"
PROXY_PORT, LISTEN_PORT = 3128, 8080
PROGRAM = Path(__file__).parent / "programs" / "proxy_and_provider.py"


def built(namespace: str, folder: Path) -> list[dict[str, Any]]:
    """Return the example with its provider behind TLS and a proxy, under a name that no DNS has."""
    objects = example_objects("09-models", namespace)
    authority = an_authority()
    authority.server_context(folder, HOST)
    program, policy, agent = find(objects, "ConfigMap"), find(objects, "AgentPolicy"), find(objects, "Agent")
    program["data"] |= {"proxy.py": PROGRAM.read_text(), "tls.pem": (folder / f"{HOST}.pem").read_text()}
    pod = find(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    pod["command"][-1] = pod["command"][-1].replace("provider.py", "proxy.py")
    find(objects, "Service")["spec"]["ports"] = [{"port": PROXY_PORT, "targetPort": LISTEN_PORT}]
    authorities = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "authority", "namespace": namespace},
        "data": {"ca.crt": authority.pem.decode()},
    }
    ca = {"configMapKeyRef": {"name": "authority", "key": "ca.crt"}}
    policy["spec"]["models"]["urls"] = [{"name": "openai", "url": f"https://{HOST}/v1", "caFrom": ca}]
    policy["spec"]["egressProxy"] = {"url": f"http://models.{namespace}.svc:{PROXY_PORT}"}
    agent["spec"]["environment"] = "staging"  # agent and guard have a pod each
    return [authorities, *objects]


@requirement("proxy.on-a-cluster")
def test_a_guard_reaches_a_provider_through_the_proxy_of_its_policy(shared: Live, tmp_path: Path) -> None:
    shared.apply(*built(shared.namespace, tmp_path))
    shared.until_ready(AGENT, 120)
    eventually(
        lambda: "allowed: chat: You said: good morning" in shared.agent_log(AGENT),
        60,
        lambda: shared.agent_log(AGENT)[-3000:],
    )
    told = shared.kubectl("-n", shared.namespace, "logs", "deployment/models")
    assert f"CONNECT {HOST}:443 HTTP/1.1" in told.splitlines()
    assert "asked: gpt-4o-mini" in told
