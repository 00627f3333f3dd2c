import copy
import json
from typing import Any

import pytest

from interlock_contract.bundle import dump_bundle, parse_bundle
from interlock_contract.http_target import HttpTarget, TargetHeader
from interlock_contract.strict_fields import BundleInvalid
from tests.unit.guard.test_bundle import WIRE

HTTP: dict[str, Any] = {
    "url": "https://crm.example.com/mcp",
    "network": "Public",
    "headers": [{"name": "Authorization", "file": "0"}, {"name": "X-Region", "value": "eu west"}],
    "caFile": "ca",
}


def wire(**edits: Any) -> dict[str, Any]:
    """Return a bundle with one source over HTTP; an edit of None takes a field away."""
    whole = copy.deepcopy(WIRE)
    http = {key: value for key, value in {**HTTP, **edits}.items() if value is not None}
    whole["sources"][0].update(transport="http", http=http)
    return whole


def test_a_source_over_http_is_read_and_written_back() -> None:
    parsed = parse_bundle(json.dumps(wire()))
    headers = (TargetHeader("Authorization", None, "0"), TargetHeader("X-Region", "eu west", None))
    assert parsed.sources[0].http == HttpTarget("https://crm.example.com/mcp", "Public", headers, "ca")
    assert json.loads(dump_bundle(parsed)) == wire()


GOOD = [
    {"url": "https://crm.example.com"},
    {"url": "https://crm.example.com:8443/mcp/v1?tenant=a%20b&x=1"},
    {"url": "https://crm.example.com:65535/"},
    {"url": "https://8.8.8.8/mcp?a[0]=(b)&c='d'*"},
    {"url": "http://crm.agents.svc:8080/mcp", "network": "Private", "caFile": None},
    {"url": "https://10.0.0.1/mcp", "network": "Private"},
]


@pytest.mark.parametrize("edits", GOOD, ids=lambda edits: edits["url"])
def test_urls_as_they_should_be_are_read(edits: dict[str, Any]) -> None:
    assert parse_bundle(json.dumps(wire(**edits))).sources[0].http is not None


BAD_URLS = [
    "",
    "crm.example.com",
    "ftp://crm.example.com/",
    "HTTPS://crm.example.com/",
    "https://user@crm.example.com/",
    "https://user:password@crm.example.com/",
    "https://crm.example.com@evil.example.com/",
    "https://crm.example.com/#fragment",
    "https://crm.example.com\\@evil.example.com/",
    "https://crm.example.com /",
    "https://crm.example.com/a b",
    "https://crm.example.com/\n",
    "https://crm.example.com/\x00",
    "https://\uff43rm.example.com/",
    "https:///mcp",
    "https://crm.example.com:port/",
    "https://crm.example.com:0/",
    "https://crm.example.com:65536/",
    "https://crm..example.com/",
    "https://crm.example.com./",
    f"https://{'x' * 64}.example.com/",
    "https://[2606:4700::1]/",
    "https://crm.example.com/<script>",
    "https://fe80::1/",
    "https://[fe80::1%25eth0]/",
    "https://crm_example.com/",
    "https://-crm.example.com/",
    "https://crm.example.com/" + "x" * 1001,
]


@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: url[:60])
def test_urls_that_could_be_read_in_two_ways_are_refused(url: str) -> None:
    with pytest.raises(BundleInvalid, match=r"sources\[0\]\.http\.url: (must be|Expected `str` of length)"):
        parse_bundle(json.dumps(wire(url=url)))


def header(**edits: Any) -> dict[str, Any]:
    return {"headers": [{key: value for key, value in {"name": "X", "value": "x", **edits}.items() if value != ""}]}


RESERVED = [
    *("Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Upgrade", "Trailer"),
    *("Mcp-Session-Id", "MCP-Protocol-Version", "mcp-name", "Accept", "ACCEPT-ENCODING", "Content-Type", "Expect"),
    *("Content-Encoding", "Proxy-Authorization", "Proxy-Connection", "Last-Event-ID"),
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"url": "http://crm.example.com/", "caFile": None}, "url: must be https for the network Public"),
    (
        {"url": "http://crm.example.com/", "network": "Private"},
        "url: must be https for the network Public, and with caFile",
    ),
    ({"url": None}, "url: is missing"),
    ({"network": "Any"}, "network: Invalid enum value 'Any'"),
    ({"caFile": "../ca"}, "caFile: must be the name of a file"),
    ({"extra": 1}, "extra: is unknown"),
    (header(name="X Y"), "headers[0].name: must be the name"),
    (header(name="X:"), "headers[0].name: must be the name"),
    (header(name="X\r\nY"), "headers[0].name: must be the name"),
    *((header(name=name), "headers[0].name: is the guard's own") for name in RESERVED),
    (header(value="x\r\nY: z"), "headers[0].value: must be printable"),
    (header(value=" x"), "headers[0].value: must be printable"),
    (header(value="\u00fc"), "headers[0].value: must be printable"),
    (header(value=1), "headers[0].value: Expected `str | null`, got `int`"),
    (header(file="0"), "headers[0]: must have exactly one of value, file"),
    (header(value=""), "headers[0]: must have exactly one of value, file"),
    (header(value="", file="../token"), "headers[0].file: must be the name of a file"),
    ({"headers": [{"name": "X", "value": "1"}, {"name": "x", "value": "2"}]}, "headers[1].name: 'x' is there twice"),
]


@pytest.mark.parametrize(("edits", "words"), BAD, ids=[words for _, words in BAD])
def test_what_is_wrong_with_a_server_is_refused_with_its_path(edits: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleInvalid) as refusal:
        parse_bundle(json.dumps(wire(**edits)))
    assert str(refusal.value).startswith(f"sources[0].http.{words}")


def test_http_stands_with_its_transport_and_with_no_other() -> None:
    for transport, keeps in (("stdio", True), ("http", False)):
        whole = wire()
        whole["sources"][0]["transport"] = transport
        if not keeps:
            del whole["sources"][0]["http"]
        with pytest.raises(BundleInvalid, match="http stands with the transport http"):
            parse_bundle(json.dumps(whole))
