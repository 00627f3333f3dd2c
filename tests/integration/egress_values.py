"""Rows of egress that the API server must admit, and those that it must refuse with which words."""

from typing import Any

from tests.integration.kubectl import POLICY, edited

NO_CIDR = "is not a CIDR: write the first address and the length of the range, such as 10.20.0.0/24"
CLOSED = "is in a range that is never opened, such as metadata services, link-local addresses and loopback"
PUBLIC = "egress db has a cidr with public addresses: write public: Allowed, or a range of private addresses"
ONE_SUBJECT = "egress db needs exactly one of agents and agentSelector"
ONE_PEER = "a peer of egress needs exactly one of cidr and selectors"
NO_RANGE = "endPort is less than port: write the last port of the range, or remove endPort"
RESERVED = "ports 7410 to 7421 are those of guards and of the audit collector, which no egress opens"
NO_LABELS = "matchLabels of a peer is empty, which would open all pods: write at least one label"
BAD_LABELS = "matchLabels of a peer has a key or a value that is not valid in a label"


def row(**edits: Any) -> dict[str, Any]:
    """Return a policy with one row, of which some members are others, or absent (None)."""
    usual = {"name": "db", "agents": ["a"], "to": [{"cidr": "10.20.0.0/24"}], "ports": [{"port": 5432}]}
    found = {name: value for name, value in {**usual, **edits}.items() if value is not None}
    return edited(POLICY, metadata__name="p2", spec__egress=[found])


def to(*cidrs: str, **edits: Any) -> dict[str, Any]:
    """Return a policy with a row for these addresses."""
    return row(to=[{"cidr": cidr} for cidr in cidrs], **edits)


def port(**members: Any) -> dict[str, Any]:
    """Return a policy with a row for these ports."""
    return row(ports=[members])


def pods(**labels: str) -> dict[str, Any]:
    """Return a policy with a row for pods with these labels."""
    return row(to=[{"podSelector": {"matchLabels": labels}}])


BAD_CIDRS = [
    "10.20.0.1/24",
    "10.20.0.0",
    "10.20.0.0/33",
    "10.20.0.0/08",
    "10.20.0.0/255.255.0.0",
    "db",
    "fe80::%1/64",
    "::ffff:0:0/96",
]
CLOSED_CIDRS = [
    *("169.254.169.254/32", "169.254.0.0/16", "169.254.170.0/24", "127.0.0.0/8", "0.0.0.0/8", "224.0.0.0/4"),
    *("168.63.129.16/32", "100.100.100.200/32", "fe80::/10", "::1/128", "fd00:ec2::/32", "64:ff9b::a9fe:0/112"),
    *("2002::/16", "255.255.255.255/32"),
]
PUBLIC_CIDRS = ["0.0.0.0/0", "::/0", "8.8.8.8/32", "10.0.0.0/7", "2606:4700::/32", "64:ff9b::808:808/128"]

REFUSED: list[tuple[dict[str, Any], str]] = [
    *((to(cidr), NO_CIDR) for cidr in BAD_CIDRS),
    *((to(cidr, public="Allowed"), CLOSED) for cidr in CLOSED_CIDRS),
    *((to(cidr), PUBLIC) for cidr in PUBLIC_CIDRS),
    (to("10.20.0.0/24", "8.8.8.8/32"), PUBLIC),
    (row(to=[{}]), ONE_PEER),
    (row(to=[{"cidr": "10.20.0.0/24", "podSelector": {"matchLabels": {"a": "b"}}}]), ONE_PEER),
    (row(to=[{"cidr": "10.20.0.0/24", "namespaceSelector": {"matchLabels": {"a": "b"}}}]), ONE_PEER),
    (pods(), NO_LABELS),
    (port(port=9, endPort=8), NO_RANGE),
    *((port(port=first, endPort=last), RESERVED) for first, last in ((7410, 7410), (1, 65535), (7421, 7430))),
    (port(port=7411), RESERVED),
]
"""What Python refuses, too."""

REFUSED_BY_ADMISSION: list[tuple[dict[str, Any], str]] = [
    (row(agentSelector={"matchLabels": {"a": "b"}}), ONE_SUBJECT),
    (row(agents=None), ONE_SUBJECT),
    (pods(**{"a/b/c": "d"}), BAD_LABELS),
    (row(to=[]), "should have at least 1 items"),
    (row(ports=[]), "should have at least 1 items"),
    (row(ports=None), "Required value"),
    (row(public="Yes"), "Unsupported value"),
    (port(port=0), "should be greater than or equal to 1"),
]

_LONGEST = {f"{'a' * 250}.x/l{index}": "v" * 63 for index in range(8)}

GOOD = [
    row(),
    to("0.0.0.0/0", "::/0", public="Allowed"),
    to("fd00::/8", "10.0.0.0/8", "100.64.0.0/10", "192.168.0.0/16", "172.16.0.0/12"),
    row(servers=["crm"], environments=["staging"], dns="Allowed"),
    row(agents=None, agentSelector={"matchLabels": {"team": "data"}}),
    pods(app="pg"),
    port(port=7409),
    port(port=7422, endPort=65535, protocol="UDP"),
    edited(
        POLICY,
        metadata__name="p2",
        spec__egress=[
            {
                "name": f"row-{number}",
                "agentSelector": {"matchLabels": _LONGEST},
                "servers": [f"{'s' * 60}{index}" for index in range(32)],
                "to": [
                    *({"cidr": f"fd00:1111:2222:3333:4444:5555:6666:{index:x}/128"} for index in range(8)),
                    *({"podSelector": {"matchLabels": {"a": str(index)}}} for index in range(8)),
                ],
                "ports": [{"port": index + 1, "protocol": "UDP"} for index in range(16)],
                "public": "Allowed",
                "dns": "Allowed",
            }
            for number in range(32)
        ],
    ),
]
"""The last one is as large as bounds allow in the number of everything."""
