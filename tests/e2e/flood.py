"""A pod that floods every port of Interlock's, and the API server, with the rights of its own namespace."""

import json
from typing import Any

from tests.e2e.live import Live
from tests.e2e.probes import a_pod

PORTS = {"interlock": 8080, "interlock-kill": 8080, "interlock-audit": 7420}
GUARD_PORTS = (7410, 7411, 7412)
FLOOD = r"""
import contextlib, json, socket, ssl, sys, threading, time, urllib.request

TOKEN = open("/var/run/secrets/kubernetes.io/serviceaccount/token").read()
NAMESPACE = open("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read()
UNVERIFIED = ssl._create_unverified_context()
API = f"https://kubernetes.default.svc/apis/interlock.dev/v1alpha1/namespaces/{NAMESPACE}/agents"

def connect(host, port):
    held = []
    while True:
        with contextlib.suppress(OSError):
            one = socket.create_connection((host, port), 1)
            one.sendall(b"POST /mcp HTTP/1.1\r\nHost: ")
            held.append(one)
        held[:-200] = []
        time.sleep(0.002)

def ask():
    while True:
        with contextlib.suppress(OSError):
            request = urllib.request.Request(API, headers={"Authorization": "Bearer " + TOKEN})
            urllib.request.urlopen(request, timeout=10, context=UNVERIFIED).read()

for host, port in json.loads(sys.argv[1]):
    threading.Thread(target=connect, args=(host, port), daemon=True).start()
for _ in range(8):
    threading.Thread(target=ask, daemon=True).start()
print("flooding", flush=True)
time.sleep(3600)
"""


def a_flood(system: Live, victim: Live, agent: str, namespace: str, account: str = "default") -> dict[str, Any]:
    """Return a pod that opens connections to every port of ours, and asks the API server without a pause.

    Args:
        system: The namespace of Interlock's programs.
        victim: The namespace of an agent.
        agent: Its name. The pod connects to its guard, too.
        namespace: Where the pod is.
        account: The pod's ServiceAccount.
    """
    guard = victim.pods_with(agent, "guard")[-1]["status"]["podIP"]
    targets = [(system.get("service", name)["spec"]["clusterIP"], port) for name, port in PORTS.items()]
    targets += [(guard, port) for port in GUARD_PORTS]
    pod = a_pod("flood", 8000, namespace)
    [container] = pod["spec"]["containers"]
    flooding = {**container, "command": ["python", "-c", FLOOD, json.dumps(targets)]}
    del flooding["readinessProbe"]
    own = {"serviceAccountName": account, "automountServiceAccountToken": True, "containers": [flooding]}
    return {**pod, "spec": {**pod["spec"], **own}}
