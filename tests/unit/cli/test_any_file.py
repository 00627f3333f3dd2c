"""Files of any content: the import ends with bindings or with sentences, and never with a traceback."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock_cli.harmless import is_harmless
from interlock_cli.import_servers import main
from tests.requirements import requirement

SETTINGS = [
    "command",
    "args",
    "env",
    "url",
    "headers",
    "type",
    "transport",
    "transportType",
    "permissions",
    "cwd",
    "environment",
    "httpUrl",
    "requestInit",
    "disabled",
    "packages",
    "remotes",
    "name",
    "server",
    "tools",
]
WORDS = [
    "",
    "x",
    "${A}",
    "${A:-b}",
    "$HOME",
    "docker",
    "npx",
    "run",
    "-e",
    "-v",
    "A=b",
    "https://x.example.com/mcp",
    "sse",
    "/c",
    "cmd",
    "wsl",
    "-d",
    "mcp-remote",
    "--header",
    "A: b",
    "--from",
    "{",
    "[]",
    "\0",
    "\n",
    "--entrypoint",
    "a" * 5000,
]
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(WORDS)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.sampled_from(SETTINGS + WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)
SERVER = st.one_of(
    ANY,
    st.dictionaries(st.sampled_from(SETTINGS), ANY, max_size=6),
    st.fixed_dictionaries({"command": st.sampled_from(WORDS), "args": st.lists(st.sampled_from(WORDS), max_size=7)}),
)
SERVERS = st.one_of(st.dictionaries(st.sampled_from(["a", "A", "!!", "c d"]), SERVER, max_size=3), st.lists(SERVER))
FILES = st.one_of(
    ANY,
    SERVERS,
    st.dictionaries(
        st.sampled_from(["mcpServers", "servers", "mcp", "context_servers", "inputs"]), SERVERS, max_size=2
    ),
    st.builds(
        lambda members, packages: {**members, "name": "x/y", "packages": packages},
        st.dictionaries(st.sampled_from(SETTINGS), ANY, max_size=4),
        ANY,
    ),
)
OPTIONS = (
    [],
    ["--image-for", "npx=a/b:1"],
    ["--only", "a"],
    ["--keep", "a:args[0]"],
    ["--dockerfile", "a"],
    ["--package", "npm"],
)


@requirement("import.refused")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=FILES, options=st.sampled_from(OPTIONS))
def test_a_file_of_any_content_ends_with_bindings_or_with_messages(
    tmp_path: Path, document: Any, options: list[str]
) -> None:
    (tmp_path / "mcp.json").write_text(json.dumps(document))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(tmp_path / "mcp.json"), *options])
    assert code == 0 or out.getvalue() == ""
    assert code == 0 or err.getvalue().startswith("interlock-import: ")


@requirement("import.refused")
@pytest.mark.parametrize(
    "server",
    [
        {"command": "x", "env": {"A": "${" + "a" * 900_000 + "}"}},
        {"command": "x", "env": {"A": "${A:-1}" * 120_000}},
        {"command": "x", "args": ["${A:-1}" * 120_000]},
        {"command": "docker", "args": ["run", *["-d"] * 150_000]},
        {"command": "npx", "args": ["mcp-remote", *["-d"] * 150_000]},
        {"url": "https://crm.example.com/" + "a/" * 400_000},
        {"command": "x", "env": {f"A{number}": "./a" for number in range(40_000)}},
    ],
    ids=lambda server: str(server)[:40],
)
def test_the_time_of_an_import_does_not_depend_on_what_is_in_the_file(tmp_path: Path, server: dict[str, Any]) -> None:
    """A step whose time grows with the square of the file would need minutes, and the time limit of a test ends it."""
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"crm": server}}))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main([str(tmp_path / "mcp.json"), "--image", "crm=example/crm:1"]) in (0, 1)


@pytest.mark.parametrize(
    "value",
    [
        "a=" * 511,
        "a: " * 300,
        "[" * 512 + "]" * 512,
        "'\"'" * 300,
        ";" * 1000,
        ",a" * 500,
        ":/a" * 300,
        "--a=" * 250,
        "a;b," * 200,
        "http://" * 140,
        '{"a":' * 150 + "1" + "}" * 150,
        "${" * 500,
        "a" * 1024,
        "." * 1024,
        "\\" * 1024,
        "C:\\" * 300,
    ],
    ids=lambda value: value[:6],
)
def test_a_value_of_any_form_is_judged(value: str) -> None:
    assert is_harmless(value) in (True, False)
