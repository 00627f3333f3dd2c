import json
from pathlib import Path
from typing import Any

import pytest

from interlock_cli.config_json import ImportRefusedError
from interlock_cli.operation_heuristics import guess_tools, read_tools
from tests.requirements import requirement

DESKTOP = Path(__file__).parents[2] / "data" / "desktop"
READ_ONLY = {"readOnlyHint": True}
DESTRUCTIVE = {"destructiveHint": True}


def guess(name: str, annotations: Any = None, *stated: str) -> tuple[str, str]:
    tool = {"name": name} if annotations is None else {"name": name, "annotations": annotations}
    (guessed,) = guess_tools([tool], "crm", stated).tools
    return guessed.operation, guessed.resource


@requirement("import.guesses")
@pytest.mark.parametrize(
    ("name", "annotations", "operation", "resource"),
    [
        ("get_contact", None, "read", "contacts"),
        ("listContacts", None, "read", "contacts"),
        ("crm_search-opportunity", None, "read", "opportunities"),
        ("create_task", None, "write", "task"),
        ("delete_contact", READ_ONLY, "delete", "contacts"),
        ("get_and_delete_contact", None, "delete", "and-contact"),
        ("get_contact", DESTRUCTIVE, "delete", "contacts"),
        ("get_contact", {"readOnlyHint": False}, "write", "contacts"),
        ("get_contact", "read only, honestly", "delete", "contacts"),
        ("frobnicate_contact", READ_ONLY, "delete", "frobnicate-contact"),
        ("contact_get", READ_ONLY, "delete", "contacts"),
        ("contact", None, "delete", "contacts"),
        ("get", None, "read", "crm"),
        ("get_contact_bank_details", None, "read", "contact-bank-details"),
    ],
)
def test_a_guess_goes_by_words_and_errs_on_the_strict_side(
    name: str, annotations: Any, operation: str, resource: str
) -> None:
    assert guess(name, annotations, "contacts", "opportunities") == (operation, resource)


@requirement("import.guesses")
@pytest.mark.parametrize("name", ["*", "get_*", "get_?", "get contact", "g\u00e9t", "", "x" * 129, "a\nb"])
def test_a_name_that_would_be_a_glob_or_that_no_map_can_hold_is_left_out_and_reported(name: str) -> None:
    guesses = guess_tools([{"name": name}], "crm", ())
    assert guesses.tools == ()
    assert len(guesses.left_out) == 1
    assert guesses.left_out[0].isprintable()


def test_no_tool_of_the_official_servers_is_guessed_to_do_less_than_the_server_says() -> None:
    for source in ("filesystem", "memory"):
        tools = read_tools(json.loads((DESKTOP / f"{source}-tools.json").read_text()), source)
        guesses = {tool.name: tool.operation for tool in guess_tools(tools, source, ()).tools}
        assert len(guesses) == len(tools)
        for tool in tools:
            said = tool["annotations"]
            least = "delete" if said.get("destructiveHint") else "read" if said["readOnlyHint"] else "write"
            order = ("read", "write", "delete")
            assert order.index(guesses[tool["name"]]) >= order.index(least), tool["name"]


def test_the_answer_may_be_the_result_the_message_or_the_list() -> None:
    tools = [{"name": "get_contact"}]
    for document in (tools, {"tools": tools}, {"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}):
        assert read_tools(document, "x") == tools


@requirement("import.refused")
@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"error": {}}, "is not an answer to tools/list"),
        ("tools", "is not an answer to tools/list"),
        ({"tools": ["get_contact"]}, "is not an answer to tools/list"),
        ({"tools": [{"title": "x"}]}, "a tool without a name"),
        ({"tools": [{"name": "a"}, {"name": "a"}]}, "has the tool 'a' twice"),
        ({"tools": [], "nextCursor": "2"}, "the first page of a longer list"),
        ({"tools": [{"name": f"t{n}"} for n in range(257)]}, "has 257 tools"),
    ],
)
def test_what_is_no_whole_list_is_refused(document: Any, message: str) -> None:
    with pytest.raises(ImportRefusedError, match=message):
        read_tools(document, "the list of tools of crm")
