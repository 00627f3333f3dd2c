"""Ways out of a pod, tried from inside it: what is sent there as a program, and what it says."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.e2e.live import Live, eventually

PROGRAM = r"""
import json, socket, struct, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

SECONDS = 2.0
NAME = b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\0"
QUERY = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + NAME + struct.pack(">2H", 16, 1)

def tcp(host, port):
    with socket.create_connection((host, port), SECONDS):
        return True

def udp(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.settimeout(SECONDS)
        one.connect((host, port))
        for _ in range(2):
            one.send(QUERY)
        return bool(one.recv(512))

def icmp(host, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as one:
        one.settimeout(SECONDS)
        one.connect((host, 0))
        one.send(b"\x08\0" + struct.pack(">H", 0xF7FE) + b"\0\0\0\x01")
        return bool(one.recv(64))

def name(host, port):
    return bool(socket.getaddrinfo(host, port))

def proxied(host, port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://{host}:{port}"}))
    with opener.open("http://example.com/", timeout=SECONDS) as answer:
        return answer.status > 0

WAYS = {"tcp": tcp, "udp": udp, "icmp": icmp, "name": name, "proxied": proxied}

def tried(probe):
    try:
        return WAYS[probe["how"]](probe["host"], probe["port"])
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False

probes = json.loads(sys.argv[1])
with ThreadPoolExecutor(32) as pool:
    print(json.dumps([probe["what"] for probe, found in zip(probes, pool.map(tried, probes)) if found]))
"""


AS_THE_AGENT = r"""
import json, sys, urllib.error, urllib.request

BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

def tried(url, host):
    try:
        request = urllib.request.Request(url, BODY, HEADERS | {"Host": host})
        return str(urllib.request.urlopen(request, timeout=5).status)
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError:
        return "closed"

print(json.dumps([tried(*one) for one in json.loads(sys.argv[1])]))
"""
"""A program that sends MCP requests as its agent would: its argument is a list of URLs and `Host` headers."""


@dataclass(frozen=True)
class Probe:
    """One way out.

    Attributes:
        what: In words.
        how: tcp, udp, icmp, name or proxied.
        host: Where.
        port: Where.
        is_alive: A pod that nothing holds back gets an answer there.
    """

    what: str
    how: str
    host: str
    port: int = 0
    is_alive: bool = True


def answered(live: Live, pod: str, container: str, probes: list[Probe]) -> set[str]:
    """Return which of the probes had an answer, tried from inside a container."""
    ways = json.dumps([asdict(probe) for probe in probes])
    done = live.attempt("-n", live.namespace, "exec", pod, "-c", container, "--", "python", "-c", PROGRAM, ways)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return set(found)


def until_answered(live: Live, pod: str, container: str, probes: list[Probe]) -> None:
    """Wait until each of the probes has had an answer: a Service, a policy or a busy pod may need a moment."""
    silent = {probe.what: probe for probe in probes}

    def all_answered() -> bool:
        for what in answered(live, pod, container, [*silent.values()]):
            del silent[what]
        return not silent

    eventually(all_answered, 60, lambda: f"no answer from: {', '.join(silent)}")


def assert_only_answered(live: Live, pod: str, container: str, probes: list[Probe], names: set[str]) -> None:
    """Wait until each probe that is named has had an answer; none of the others may get one."""
    assert names <= {probe.what for probe in probes}
    until_answered(live, pod, container, [probe for probe in probes if probe.what in names])
    assert answered(live, pod, container, [probe for probe in probes if probe.what not in names]) == set()


def a_pod(name: str, port: int, namespace: str) -> dict[str, Any]:
    """Return a pod that nothing holds back, which answers TCP at one port, UDP at the next, and as a web server."""
    serve = (
        "import http.server, socketserver, threading, sys\n"
        "port = int(sys.argv[1])\n"
        "class Echo(socketserver.BaseRequestHandler):\n"
        "    def handle(self): self.request[1].sendto(b'x', self.client_address)\n"
        "echo = socketserver.ThreadingUDPServer(('0.0.0.0', port + 1), Echo)\n"
        "threading.Thread(target=echo.serve_forever, daemon=True).start()\n"
        "http.server.ThreadingHTTPServer(('0.0.0.0', port), http.server.BaseHTTPRequestHandler).serve_forever()\n"
    )
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": "registry.invalid/interlock/example-agent:dev",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", serve, str(port)],
                    "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                    "securityContext": security,
                }
            ],
        },
    }
