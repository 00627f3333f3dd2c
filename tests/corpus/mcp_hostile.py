"""Hostile messages to a guard, by what they try.

Each would reach the server if one check were missing or two parsers disagreed; `echo` is a tool that may be called,
`drop` one that it may not.

`BODIES` are bodies of a well-formed POST, `HEADED` bodies with headers of their own, `requests` whole HTTP requests.
"""

import base64
import gzip
import json
import zlib
from functools import partial
from typing import Any, Final

SESSIONLESS: Final = "2026-07-28"
VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_META: Final = "io.modelcontextprotocol/clientCapabilities"

CALL: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "echo", "arguments": {}},
}
TEXT: Final = json.dumps(CALL)
MIB: Final = 1024 * 1024


def call(**members: Any) -> bytes:
    return json.dumps({**CALL, **members}).encode()


def params(**members: Any) -> bytes:
    return call(params={"name": "echo", "arguments": {}, **members})


def tool(name: Any) -> bytes:
    return params(name=name)


def argument(text: str) -> bytes:
    """Return a call with one argument whose JSON is the text."""
    return TEXT.replace("{}", f'{{"n": {text}}}').encode()


def sessionless(**members: Any) -> dict[str, Any]:
    meta = {VERSION_META: SESSIONLESS, CAPABILITIES_META: {}}
    return {**CALL, "params": {"name": "echo", "arguments": {}, "_meta": meta}, **members}


def without(*keys: str) -> bytes:
    return json.dumps({key: CALL[key] for key in CALL if key not in keys}).encode()


_NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \r\n\t ",
    "no JSON": b"{",
    "half a message": TEXT[: len(TEXT) // 2].encode(),
    "two objects": (TEXT + TEXT).encode(),
    "two objects on two lines": (TEXT + "\n" + TEXT).encode(),
    "an object and a comma": (TEXT + ",").encode(),
    "a record separator": b"\x1e" + TEXT.encode(),
    "a byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16 without a mark": TEXT.encode("utf-16-le"),
    "UTF-32": TEXT.encode("utf-32"),
    "UTF-7": TEXT.replace("/", "+AC8-").encode(),
    "not UTF-8": TEXT.encode().replace(b"echo", b"ech\xff"),
    "Latin-1": TEXT.encode().replace(b"echo", b"\xe9cho"),
    "overlong UTF-8": TEXT.encode().replace(b"echo", b"ech\xc1\xaf"),
    "overlong UTF-8 of a slash": TEXT.encode().replace(b"tools/call", b"tools\xc0\xafcall"),
    "a surrogate in UTF-8": TEXT.encode().replace(b"echo", b"\xed\xa0\x80cho"),
    "a code point beyond Unicode": TEXT.encode().replace(b"echo", b"\xf4\x90\x80\x80"),
    "a comment": TEXT.replace("{}", "{/**/}").encode(),
    "a line comment": (TEXT + " // fine").encode(),
    "a trailing comma": TEXT.replace("{}", '{"a": 1,}').encode(),
    "single quotes": TEXT.replace('"', "'").encode(),
    "unquoted keys": TEXT.replace('"method"', "method").encode(),
    "a tab in a string": TEXT.replace("echo", "e\tcho").encode(),
    "a line feed in a string": TEXT.replace("echo", "echo\n").encode(),
    "a NUL between": TEXT.encode() + b"\x00",
    "a NUL in a string": TEXT.encode().replace(b"echo", b"echo\x00"),
    "a JSON sequence": b"\x1e" + TEXT.encode() + b"\n",
    "form data": b"jsonrpc=2.0&id=1&method=tools/call",
    "XML": b"<methodCall><methodName>tools/call</methodName></methodCall>",
    "MessagePack": b"\x84\xa7jsonrpc\xa32.0\xa2id\x01\xa6method\xaatools/call",
    "a server-sent event": b"data: " + TEXT.encode() + b"\n\n",
    "Content-Length framing": b"Content-Length: 90\r\n\r\n" + TEXT.encode(),
    "gzip without a word": gzip.compress(TEXT.encode()),
    "base64": base64.b64encode(TEXT.encode()),
    "JSON in JSON": json.dumps(TEXT).encode(),
}

_SHAPE: dict[str, bytes] = {
    "a batch": f"[{TEXT}]".encode(),
    "a batch of two": f"[{TEXT}, {TEXT}]".encode(),
    "a batch after a ping": f'[{{"jsonrpc":"2.0","id":2,"method":"ping"}}, {TEXT}]'.encode(),
    "an empty batch": b"[]",
    "a nested batch": f"[[{TEXT}]]".encode(),
    "a string": b'"tools/call"',
    "a number": b"1",
    "true": b"true",
    "null": b"null",
    "a duplicate method": TEXT.replace('"method"', '"method": "ping", "method"').encode(),
    "a duplicate method the other way": TEXT.replace("}}", '}, "method": "ping"}').encode(),
    "duplicate params": TEXT.replace('"params"', '"params": {}, "params"').encode(),
    "a duplicate id": TEXT.replace('"id"', '"id": 2, "id"').encode(),
    "a duplicate jsonrpc": TEXT.replace('"jsonrpc"', '"jsonrpc": "2.0", "jsonrpc"').encode(),
    "a duplicate name": TEXT.replace('"name"', '"name": "drop", "name"').encode(),
    "an escaped duplicate name": TEXT.replace('"name"', '"n\\u0061me": "drop", "name"').encode(),
    "a duplicate argument": TEXT.replace("{}", '{"region": "a", "region": "b"}').encode(),
    "a duplicate deep down": argument('{"a": [{"b": 1, "b": 2}]}'),
    "an equal duplicate": argument('{"a": 1, "a": 1}'),
    "an empty key twice": argument('{"": 1, "": 2}'),
    "no version": without("jsonrpc"),
    "version 1.0": call(jsonrpc="1.0"),
    "version 2": call(jsonrpc="2"),
    "version 2.0 as a number": call(jsonrpc=2.0),
    "version in capitals": TEXT.replace('"jsonrpc"', '"JSONRPC"').encode(),
    "a method key in capitals": TEXT.replace('"method"', '"Method"').encode(),
    "params in capitals": TEXT.replace('"params"', '"Params"').encode(),
    "an unknown member": call(extra=1),
    "an unknown empty member": call(**{"": 1}),
    "__proto__": TEXT.replace('{"jsonrpc"', '{"__proto__": {}, "jsonrpc"').encode(),
    "a request and a response at once": call(result={}),
    "a request and an error at once": call(error={"code": 1, "message": ""}),
    "a null id": call(id=None),
    "a true id": call(id=True),
    "a false id": call(id=False),
    "a fractional id": call(id=1.5),
    "an integral float id": TEXT.replace('"id": 1', '"id": 1.0').encode(),
    "a list as id": call(id=[1]),
    "an object as id": call(id={}),
    "an id of 300 characters": call(id="x" * 300),
    "an id beyond 2^53": call(id=2**53 + 1),
    "an id below -2^53": call(id=-(2**53) - 1),
    "an id of 400 digits": TEXT.replace('"id": 1', '"id": ' + "9" * 400).encode(),
    "params as a list": call(params=["echo"]),
    "params as a string": call(params='{"name": "echo"}'),
    "null params": call(params=None),
    "no method": without("method"),
    "an empty method": call(method=""),
    "a null method": call(method=None),
    "a method that is a number": call(method=1),
    "a method that is a list": call(method=["tools/call"]),
    "a method that is an object": call(method={"name": "tools/call"}),
    "a method of 200 characters": call(method="tools/call" + "x" * 190),
    "a call as a notification": without("id"),
    "a response": b'{"jsonrpc":"2.0","id":1,"result":{}}',
    "a response to a string": b'{"jsonrpc":"2.0","id":"interlock-1","result":{}}',
    "an error": b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}',
    "a response with both": b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}',
    "an id alone": b'{"jsonrpc":"2.0","id":1}',
}

_METHODS: dict[str, bytes] = {
    f"method {name!r}": call(method=name)
    for name in (
        "Tools/Call",
        "TOOLS/CALL",
        "tools/Call",
        "tools/call ",
        " tools/call",
        "tools/call\n",
        "tools/call\x00",
        "tools/call\u200b",
        "\ufefftools/call",
        "tools\u2215call",
        "tools\uff0fcall",
        "t\u043e\u043els/call",
        "tools/c\u0430ll",
        "\uff54ools/call",
        "tools/call\u202e",
        "tools//call",
        "/tools/call",
        "tools/call/",
        "tools/./call",
        "tools/../tools/call",
        "tools%2fcall",
        "tools.call",
        "tools\\call",
        "tools:call",
        "tools/call?x",
        "tools/call#",
        "tools",
        "call",
        "tools/execute",
        "tools/invoke",
        "tasks/get",
        "tasks/result",
        "tasks/cancel",
        "rpc.discover",
        "system.listMethods",
        "sampling/createMessage",
        "elicitation/create",
        "roots/list",
        "server/discover",
        "subscriptions/listen",
        "notifications/initialized",
        "notifications/message",
        "$/cancelRequest",
        "shutdown",
        "__proto__",
        "constructor",
    )
}

_TOOLS: dict[str, bytes] = {
    f"tool {name!r}": tool(name)
    for name in (
        "ECHO",
        "Echo",
        "eCho",
        "echo ",
        " echo",
        "echo\t",
        "echo\n",
        "echo\r",
        "echo\x00",
        "echo\x00drop",
        "\uff45cho",
        "ech\u043e",
        "ec\u04bbo",
        "echo\u200b",
        "e\u00adcho",
        "echo\u0301",
        "\u202eohce",
        "echo.",
        "echo/",
        "../echo",
        "crm/echo",
        "crm.echo",
        "crm__echo",
        "ec*",
        "*",
        ".*",
        "ech?",
        "echo,drop",
        "echo;drop",
        "echo|drop",
        "echo%00",
        "e%63ho",
        "&#101;cho",
        "\\u0065cho",
        "drop",
        "",
        "x" * 1025,
        None,
        True,
        0,
        1.5,
        ["echo"],
        {"name": "echo"},
    )
}

_PARAMS: dict[str, bytes] = {
    "an unknown parameter": params(extra=1),
    "a name in capitals next to it": params(Name="drop"),
    "toolName next to name": params(toolName="drop"),
    "args next to arguments": params(args={}),
    "a task": params(task={"ttl": 1}),
    "answers without the sessionless protocol": params(inputResponses={}),
    "a state without the sessionless protocol": params(requestState="x"),
    "arguments as text": params(arguments="{}"),
    "arguments as a list": params(arguments=[]),
    "null arguments": params(arguments=None),
    "arguments as a number": params(arguments=1),
    "_meta as a list": params(_meta=[]),
    "_meta as text": params(_meta="x"),
    "null _meta": params(_meta=None),
    "a progress token that is an object": params(_meta={"progressToken": {}}),
    "a progress token that is true": params(_meta={"progressToken": True}),
    "a progress token that is a fraction": params(_meta={"progressToken": 0.5}),
    "a progress token of 300 characters": params(_meta={"progressToken": "x" * 300}),
    "no name": call(params={"arguments": {}}),
    "no params": without("params"),
}

_NUMBERS: dict[str, bytes] = {
    f"number {text[:20]}": argument(text)
    for text in (
        "NaN",
        "-NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "1E400",
        "[1e309]",
        "9" * 5000,
        "0x10",
        "010",
        "+1",
        ".5",
        "1.",
        "1_000",
        "1e",
        "--1",
        "\u0661",
    )
}

_STRINGS: dict[str, bytes] = {
    "a lone high surrogate": argument('"\\ud800"'),
    "a lone low surrogate": argument('"\\udc00"'),
    "surrogates the wrong way round": argument('"\\udc00\\ud800"'),
    "a surrogate and a letter": argument('"\\ud800x"'),
    "a lone surrogate in a key": argument('{"\\ud800": 1}'),
    "a lone surrogate as the tool": TEXT.replace('"echo"', '"\\ud800"').encode(),
    "a lone surrogate as the id": TEXT.replace('"id": 1', '"id": "\\udfff"').encode(),
    "a bad escape": argument('"\\x41"'),
    "a short escape": argument('"\\u41"'),
    "an escape of braces": argument('"\\u{41}"'),
}

_SIZE: dict[str, bytes] = {
    "depth 65": argument("[" * 63 + "]" * 63),
    "depth 65 of objects": argument('{"a":' * 62 + "{}" + "}" * 62),
    "depth 1000": argument("[" * 1000 + "]" * 1000),
    "depth 100000": argument("[" * 100_000 + "]" * 100_000),
    "depth 100000 of objects": argument('{"a":' * 100_000 + "1" + "}" * 100_000),
    "depth without an end": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b"[" * 1_000_000,
    "4 MiB and one": argument(json.dumps("x" * 4 * MIB)),
    "4 MiB of white space": TEXT.encode() + b" " * 4 * MIB,
    "4 MiB of digits": argument("1" * 4 * MIB),
}

BODIES: Final = {
    **_NOT_JSON,
    **_SHAPE,
    **_METHODS,
    **_TOOLS,
    **_PARAMS,
    **_NUMBERS,
    **_STRINGS,
    **_SIZE,
}

_AGREED: Final = {"MCP-Protocol-Version": SESSIONLESS, "Mcp-Method": "tools/call", "Mcp-Name": "echo"}


def _headed(body: Any = None, **headers: str | None) -> tuple[bytes, dict[str, str]]:
    """Return a call of the sessionless protocol with headers that agree, but for those that are changed or left out."""
    changed = {**_AGREED, **{name.replace("_", "-"): value for name, value in headers.items()}}
    kept = {name: value for name, value in changed.items() if value is not None}
    return json.dumps(sessionless() if body is None else body).encode(), kept


def _meta(**meta: Any) -> dict[str, Any]:
    return sessionless(params={"name": "echo", "arguments": {}, "_meta": meta})


_DROP: Final = sessionless(params={**sessionless()["params"], "name": "drop"})

HEADED: Final[dict[str, tuple[bytes, dict[str, str]]]] = {
    "no version header": _headed(**{"MCP-Protocol-Version": None}),
    "an older version header": _headed(**{"MCP-Protocol-Version": "2025-11-25"}),
    "an unknown version header": _headed(**{"MCP-Protocol-Version": "2027-01-01"}),
    "a version header in quotes": _headed(**{"MCP-Protocol-Version": f'"{SESSIONLESS}"'}),
    "two versions in one header": _headed(**{"MCP-Protocol-Version": f"{SESSIONLESS}, 2025-11-25"}),
    "no method header": _headed(Mcp_Method=None),
    "another method header": _headed(Mcp_Method="tools/list"),
    "a method header in capitals": _headed(Mcp_Method="Tools/Call"),
    "two methods in one header": _headed(Mcp_Method="tools/call, tools/list"),
    "no name header": _headed(Mcp_Name=None),
    "another name header": _headed(Mcp_Name="drop"),
    "a name header for another body": _headed(_DROP),
    "a name header in capitals": _headed(Mcp_Name="ECHO"),
    "an empty name header": _headed(Mcp_Name=""),
    "base64 of another name": _headed(Mcp_Name="=?base64?ZHJvcA==?="),
    "base64 that is not canonical": _headed(Mcp_Name="=?base64?ZWNobz==?="),
    "base64 with white space": _headed(Mcp_Name="=?base64?ZWNo bw==?="),
    "base64 without its padding": _headed(Mcp_Name="=?base64?ZWNobw?="),
    "base64 in capitals": _headed(Mcp_Name="=?BASE64?ZWNobw==?="),
    "base64 of no UTF-8": _headed(Mcp_Name="=?base64?/////w==?="),
    "base64 in base64": _headed(Mcp_Name="=?base64?PT9iYXNlNjQ/WldOb2J3PT0/PQ==?="),
    "a MIME word": _headed(Mcp_Name="=?UTF-8?B?ZWNobw==?="),
    "the version of the future": _headed(
        _meta(**{VERSION_META: "2027-01-01", CAPABILITIES_META: {}}), **{"MCP-Protocol-Version": "2027-01-01"}
    ),
    "an older version in the body": _headed(
        _meta(**{VERSION_META: "2025-11-25", CAPABILITIES_META: {}}), **{"MCP-Protocol-Version": "2025-11-25"}
    ),
    "a null version": _headed(_meta(**{VERSION_META: None, CAPABILITIES_META: {}}), **{"MCP-Protocol-Version": None}),
    "a version that is a number": _headed(_meta(**{VERSION_META: 20260728, CAPABILITIES_META: {}})),
    "a version that is a list": _headed(_meta(**{VERSION_META: [SESSIONLESS], CAPABILITIES_META: {}})),
    "no capabilities": _headed(_meta(**{VERSION_META: SESSIONLESS})),
    "capabilities as a list": _headed(_meta(**{VERSION_META: SESSIONLESS, CAPABILITIES_META: []})),
    "a log level that is none": _headed(
        _meta(**{VERSION_META: SESSIONLESS, CAPABILITIES_META: {}, "io.modelcontextprotocol/logLevel": "loud"})
    ),
    "sessionless headers, a body without": _headed(CALL),
    "a state the guard never gave": _headed(sessionless(params={**sessionless()["params"], "requestState": "guess"})),
    "a state that is a number": _headed(sessionless(params={**sessionless()["params"], "requestState": 1})),
    "answers without a request": _headed(sessionless(params={**sessionless()["params"], "inputResponses": {"q": {}}})),
    "answers as a list": _headed(sessionless(params={**sessionless()["params"], "inputResponses": []})),
    "a method of the other protocol": _headed(
        sessionless(method="logging/setLevel", params={**sessionless()["params"], "level": "debug"}),
        Mcp_Method="logging/setLevel",
    ),
    "initialize in the sessionless protocol": _headed(sessionless(method="initialize"), Mcp_Method="initialize"),
    "gzip": (gzip.compress(TEXT.encode()), {"Content-Encoding": "gzip"}),
    "a gzip bomb": (gzip.compress(b" " * 64 * MIB + TEXT.encode()), {"Content-Encoding": "gzip"}),
    "deflate": (zlib.compress(TEXT.encode()), {"Content-Encoding": "deflate"}),
    "brotli in name": (TEXT.encode(), {"Content-Encoding": "br"}),
    "zstandard in name": (TEXT.encode(), {"Content-Encoding": "zstd"}),
    "identity in name": (TEXT.encode(), {"Content-Encoding": "identity"}),
    "plain text": (TEXT.encode(), {"Content-Type": "text/plain"}),
    "JSON of another kind": (TEXT.encode(), {"Content-Type": "application/json-rpc"}),
    "a batch by its type": (TEXT.encode(), {"Content-Type": "application/json-seq"}),
    "a form": (TEXT.encode(), {"Content-Type": "application/x-www-form-urlencoded"}),
    "two types": (TEXT.encode(), {"Content-Type": "text/plain, application/json"}),
    "no type": (TEXT.encode(), {"Content-Type": ""}),
    "another host": (TEXT.encode(), {"Host": "evil.example"}),
    "another origin": (TEXT.encode(), {"Origin": "http://evil.example"}),
    "no origin to speak of": (TEXT.encode(), {"Origin": "null"}),
}


def raw(*lines: str, body: bytes = TEXT.encode(), port: int = 0) -> bytes:
    return "\r\n".join([*lines, "", ""]).replace("PORT", str(port)).encode("latin-1") + body


HOST: Final = "Host: 127.0.0.1:PORT"
JSON: Final = "Content-Type: application/json"
LENGTH: Final = f"Content-Length: {len(TEXT)}"
POST: Final = "POST /mcp/crm HTTP/1.1"
CHUNKED: Final = "Transfer-Encoding: chunked"
CHUNKS: Final = b"%x\r\n%s\r\n0\r\n\r\n" % (len(TEXT), TEXT.encode())


def requests(port: int) -> dict[str, bytes]:
    """Return raw HTTP requests for a guard on that port; none may have an effect, nor what hides in one."""
    return {**_framings(port), **_targets(port), **_repeated(port)}


def _post(port: int, *lines: str, body: bytes = TEXT.encode(), start: str = POST) -> bytes:
    return raw(start, HOST, JSON, *lines, body=body, port=port)


def _hidden(port: int) -> bytes:
    return raw(POST, HOST, JSON, LENGTH, port=port)


def _framings(port: int) -> dict[str, bytes]:
    """Return requests whose end two parsers could see in different places."""
    post = partial(_post, port)
    return {
        "a length and chunks": post(LENGTH, CHUNKED, body=CHUNKS),
        "chunks and a length": post(CHUNKED, LENGTH, body=CHUNKS),
        "a short length and chunks": post("Content-Length: 4", CHUNKED, body=b"0\r\n\r\n" + _hidden(port)),
        "two lengths": post(LENGTH, "Content-Length: 0"),
        "the same length twice": post(LENGTH, LENGTH),
        "two lengths in one header": post(f"{LENGTH}, 0"),
        "a length with a sign": post(f"Content-Length: +{len(TEXT)}"),
        "a negative length": post("Content-Length: -1"),
        "a length in hexadecimal": post(f"Content-Length: {len(TEXT):#x}"),
        "a length with a fraction": post(f"Content-Length: {len(TEXT)}.0"),
        "a length of 30 digits": post("Content-Length: " + "9" * 30),
        "a space before the colon": post(f"Content-Length : {len(TEXT)}"),
        "a folded header": post("Content-Length:", f" {len(TEXT)}"),
        "a header without a colon": post(LENGTH, "Content-Length"),
        "a header with a NUL": post(LENGTH, "X-A: a\x00b"),
        "a header with a bare CR": post(LENGTH, "X-A: a\rX-B: b"),
        "chunks in another coding": post("Transfer-Encoding: gzip, chunked", body=CHUNKS),
        "chunks that are not last": post("Transfer-Encoding: chunked, identity", body=CHUNKS),
        "chunks twice": post("Transfer-Encoding: chunked, chunked", body=CHUNKS),
        "chunks misspelt": post("Transfer-Encoding: xchunked", body=CHUNKS),
        "chunks with a tab": post("Transfer-Encoding:\tchunked\x0b", body=CHUNKS),
        "a chunk of no size": post(CHUNKED, body=b"zz\r\n" + TEXT.encode()),
        "a chunk of a negative size": post(CHUNKED, body=b"-1\r\n" + TEXT.encode()),
        "a chunk of a huge size": post(CHUNKED, body=b"ffffffffffffffffff\r\n" + TEXT.encode()),
        "a chunk with a bare LF": post(CHUNKED, body=CHUNKS.replace(b"\r\n", b"\n")),
    }


def _targets(port: int) -> dict[str, bytes]:
    """Return requests for something else than what they seem to be for."""
    post, hidden = partial(_post, port), _hidden(port)
    return {
        "no host": raw(POST, JSON, LENGTH, port=port),
        "two hosts": post("Host: evil.example", LENGTH),
        "another host in the target": post(LENGTH, start="POST http://evil.example/mcp/crm HTTP/1.1").replace(
            HOST.replace("PORT", str(port)).encode(), b"Host: evil.example"
        ),
        "another path": post(LENGTH, start="POST /mcp/crm/../crm/ HTTP/1.1"),
        "a path with a NUL": post(LENGTH, start="POST /mcp/crm%00 HTTP/1.1"),
        "a path in capitals": post(LENGTH, start="POST /MCP/CRM HTTP/1.1"),
        "a path twice encoded": post(LENGTH, start="POST /mcp/%2563rm HTTP/1.1"),
        "PUT": post(LENGTH, start="PUT /mcp/crm HTTP/1.1"),
        "PATCH": post(LENGTH, start="PATCH /mcp/crm HTTP/1.1"),
        "TRACE": post(LENGTH, start="TRACE /mcp/crm HTTP/1.1"),
        "CONNECT": post(LENGTH, start="CONNECT 127.0.0.1:7411 HTTP/1.1"),
        "a method in lower case": post(LENGTH, start="post /mcp/crm HTTP/1.1"),
        "another method by a header": post(LENGTH, "X-HTTP-Method-Override: POST", start="PUT /mcp/crm HTTP/1.1"),
        "no HTTP version": post(LENGTH, start="POST /mcp/crm"),
        "HTTP/9.9": post(LENGTH, start="POST /mcp/crm HTTP/9.9"),
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden,
        "a request in the body of a GET": raw(
            "GET /mcp/crm HTTP/1.1", HOST, JSON, f"Content-Length: {len(hidden)}", body=hidden, port=port
        ),
        "a request in the body of a DELETE": raw(
            "DELETE /mcp/crm HTTP/1.1", HOST, JSON, f"Content-Length: {len(hidden)}", body=hidden, port=port
        ),
    }


def _repeated(port: int) -> dict[str, bytes]:
    """Return requests with a header twice, or too large."""
    post = partial(_post, port)
    return {
        "a type twice": post(LENGTH, "Content-Type: text/plain"),
        "a session twice": post(LENGTH, "Mcp-Session-Id: a", "Mcp-Session-Id: b"),
        "a version twice": post(LENGTH, "MCP-Protocol-Version: 2025-11-25", "MCP-Protocol-Version: 2025-06-18"),
        "a method header twice": post(LENGTH, "Mcp-Method: tools/call", "Mcp-Method: tools/call"),
        "a name header twice": post(LENGTH, "Mcp-Name: echo", "Mcp-Name: echo"),
        "an origin twice": post(LENGTH, "Origin: http://127.0.0.1:PORT", "Origin: http://127.0.0.1:PORT"),
        "a header of 64 KiB": post(LENGTH, "X-A: " + "a" * 65536),
        "a target of 64 KiB": post(LENGTH, start=f"POST /mcp/crm?{'a' * 65536} HTTP/1.1"),
        "a session of 129 characters": post(LENGTH, "Mcp-Session-Id: " + "a" * 129),
    }
