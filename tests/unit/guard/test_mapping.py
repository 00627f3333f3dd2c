from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract import mapping
from interlock_contract.bundle import BundleResource, BundleTool, Operation
from interlock_contract.mapping import find_named, find_resource, find_template
from tests.requirements import requirement


def tools(**mapped: Operation) -> tuple[BundleTool, ...]:
    return tuple(BundleTool(name, operation, "r") for name, operation in mapped.items())


def named(*names: str) -> tuple[BundleTool, ...]:
    return tuple(BundleTool(name, "read", "r") for name in names)


def resources(*uris: str) -> tuple[BundleResource, ...]:
    return tuple(BundleResource(uri, "read", "r") for uri in uris)


def found(entries: tuple[BundleTool, ...], name: str | None) -> str | None:
    entry = find_named(entries, name)
    return None if entry is None else entry.name


def located(entries: tuple[BundleResource, ...], uri: str | None) -> str | None:
    entry = find_resource(entries, uri)
    return None if entry is None else entry.uri


@requirement("guard.globs")
def test_a_written_name_beats_globs_and_the_first_glob_wins() -> None:
    entries = named("*", "get_*", "get_contact", "get_c*")
    assert found(entries, "get_contact") == "get_contact"
    assert found(entries, "get_deal") == "*"
    assert found(named("get_*", "*"), "get_deal") == "get_*"
    assert found(named("get_*", "*"), "drop") == "*"


def test_what_nothing_names_is_not_found() -> None:
    assert found(named("get_*", "list"), "drop") is None
    assert found(named("*"), None) is None
    assert found((), "drop") is None


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "get contact", "get\tcontact", "get\n", "get\x00", "g\u00e9t", "\uff47et", "get\u200b", "x" * 129),
        *("..", ".", "fs/..", "../fs", "a/b"),
    ],
)
@requirement("guard.globs")
def test_no_glob_takes_a_name_that_is_not_plain(name: str) -> None:
    assert found(named("*", "fs/*", "*/fs"), name) is None


@pytest.mark.parametrize("name", ["Delete_Contact", "DELETE_x", "delete_X", "Delete_x"])
@requirement("guard.globs")
def test_capitals_do_not_move_a_name_under_a_wider_glob(name: str) -> None:
    entries = (
        BundleTool("delete_contact", "delete", "r"),
        BundleTool("delete_x", "delete", "r"),
        BundleTool("*", "read", "r"),
    )
    assert find_named(entries, name) is None
    globs = (BundleTool("delete_*", "delete", "r"), BundleTool("*", "read", "r"))
    assert found(globs, name) == ("delete_*" if name.startswith("delete_") else None)


def test_names_that_differ_in_capitals_may_both_be_written() -> None:
    assert found(named("Get", "get", "GET"), "get") == "get"
    assert found(named("Get", "get", "GET"), "GET") == "GET"
    assert found(named("Get"), "get") is None


def test_a_glob_takes_capitals_that_change_nothing() -> None:
    assert found(named("get_*", "*"), "get_Contact") == "get_*"
    assert found(named("Get_*"), "Get_Contact") == "Get_*"


@requirement("guard.globs")
def test_a_call_of_the_globs_own_text_is_no_written_name() -> None:
    assert found((*named("a*"), *named("a?")), "a?") == "a*"


@given(
    entries=st.lists(st.text(st.sampled_from("ab*?/."), min_size=1, max_size=4), unique=True, max_size=4),
    name=st.text(st.sampled_from("abAB/."), max_size=4),
)
@requirement("guard.globs")
def test_what_is_found_matches_and_nothing_before_it_does(entries: list[str], name: str) -> None:
    def takes(glob: str, text: str) -> bool:
        if not glob:
            return not text
        if glob[0] == "*":
            return takes(glob[1:], text) or (bool(text) and text[0] != "/" and takes(glob, text[1:]))
        return bool(text) and (glob[0] == text[0] or (glob[0] == "?" and text[0] != "/")) and takes(glob[1:], text[1:])

    entry = found(named(*entries), name)
    matching = [glob for glob in entries if takes(glob, name)]
    if name in entries:
        assert entry == name
    elif entry is not None:
        assert entry == matching[0]
    elif name == name.lower() and name and not any(part in (".", "..") for part in name.split("/")):
        assert not matching


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "file:///data/../etc/passwd",
            "file:///data/..",
            "file:///data/./x",
            "file:///data/..;/x",
            "file:///data/..?x",
        ),
        *("file:///data/%2e%2e/etc", "file:///data/%2E./etc", "file:///data/..%2fetc", "file:///data/a%2Fb"),
        *(
            "file:///data/%252e%252e/etc",
            "file:///data/a%5c..%5cb",
            "file:///data/a\\b",
            "file:///data/%00",
            "file:///data/%0a",
        ),
        *("file:///data/%", "file:///data/%4", "file:///data/%zz", "file:///data/a b", "file:///data/a\n"),
        *(
            "file:///data/\u00e4",
            "file:///data/{id}",
            "file:///data/a?b",
            "file:///data/a#b",
            "file:///database",
            "",
            "data",
        ),
        "file:///data/" + "a" * 4096,
        # Readings of a server that decodes and normalises.
        *("file:///data/..%3b/secret", "file:///data/..%3f", "file:///data/..%23", "file:///data/..%20/secret"),
        *("file:///data/%ef%bc%8e%ef%bc%8e/secret", "file:///data/..%ef%bc%8fsecret", "file:///data/%e2%80%a5/secret"),
        *("file:///data/%c0%ae%c0%ae/secret", "file:///data/%ff", "file:///data/..%c2%a5secret"),
    ],
)
@requirement("guard.globs")
def test_no_glob_takes_a_uri_that_a_server_could_read_otherwise(uri: str) -> None:
    assert located(resources("file:///data/*", "file:///data/**"), uri) is None


def test_a_glob_takes_the_uris_that_it_names() -> None:
    entries = resources("file:///data/*", "file:///data/**", "crm://s?q=*")
    assert located(entries, "file:///data/report.txt") == "file:///data/*"
    assert located(entries, "file:///data/a%20b") == "file:///data/*"
    assert located(entries, "file:///data/a/b") == "file:///data/**"
    assert located(entries, "crm://s?q=x") == "crm://s?q=*"
    assert located(entries, None) is None


@requirement("guard.globs")
def test_a_glob_of_one_part_takes_no_uri_whose_normal_form_has_more_parts() -> None:
    entries = resources("file:///data/*")
    assert located(entries, "file:///data/caf%c3%a9") == "file:///data/*"
    assert located(entries, "file:///data/a%ef%bc%8fb") is None


@requirement("guard.globs")
def test_a_written_uri_beats_globs_and_is_taken_as_it_stands() -> None:
    entries = resources("crm://**", "crm://a%2Fb")
    assert located(entries, "crm://a%2Fb") == "crm://a%2Fb"
    assert located(entries, "crm://a%2fb") is None


@pytest.mark.parametrize("uri", ["crm://%6bey/1", "crm://KEY/1", "crm://%4BEY/1", "CRM://key/1"])
@requirement("guard.globs")
def test_another_spelling_does_not_move_a_uri_under_a_wider_glob(uri: str) -> None:
    entries = (BundleResource("crm://key/*", "delete", "keys"), BundleResource("crm://**", "read", "r"))
    assert find_resource(entries, uri) is None
    assert (
        find_resource((BundleResource("crm://key/1", "delete", "keys"), BundleResource("crm://**", "read", "r")), uri)
        is None
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("crm://c/{id}", "crm://c/*"),
        ("crm://c/{+path}", "crm://c/*"),
        ("crm://c{/id}", "crm://c/*"),
        ("crm://c{/region,id}", "crm://c/**"),
        ("crm://c/{region}/{id}", "crm://c/**"),
        ("crm://s{?q}", "crm://s?q=*"),
        ("crm://s?q={q}", "crm://s?q=*"),
        ("crm://s{?q*}", "crm://s?q=*"),
        ("crm://s{?q:3}", "crm://s?q=*"),
        ("crm://s{?q,r}", None),
        ("crm://s?q=a{&r}", None),
        ("crm://c/x{.ext}", "crm://c/*"),
        ("crm://c/{a,b}", "crm://c/*"),
        ("crm://c/x{#part}", None),
        ("crm://c/1", "crm://c/*"),
        ("crm://d/{id}", None),
        ("crm://c/../{id}", None),
        ("crm://c/{id", None),
        ("crm://c/{}", None),
        ("{+uri}", None),
        (None, None),
    ],
)
@requirement("guard.resources")
def test_a_template_falls_under_what_it_stands_for(template: str | None, expected: str | None) -> None:
    entry = find_template(resources("crm://c/*", "crm://c/**", "crm://s?q=*"), template)
    assert (None if entry is None else entry.uri) == expected


FOLDER = "file:///data/{path}"


@pytest.mark.parametrize(
    ("template", "values"),
    [
        (FOLDER, {"path": ""}),
        (FOLDER, {"path": "a"}),
        (FOLDER, {"path": "a b/caf\u00e9."}),
        ("file:///data/{+path}", {"path": "a/b"}),
        ("file:///data{/folder,name*}", {"folder": "a", "name": "b"}),
        ("file:///data{/folder,name:3}", {"name": "b"}),
    ],
)
@requirement("guard.resources")
def test_a_template_is_completed_within_its_entry(template: str, values: dict[str, str]) -> None:
    entry = find_template(resources("file:///data/**", "file:///data/vip"), template, values)
    assert entry is not None
    assert entry.uri == "file:///data/**"


@pytest.mark.parametrize(
    ("template", "values"),
    [
        (FOLDER, {"path": "../"}),
        (FOLDER, {"path": "a/../../etc/"}),
        (FOLDER, {"path": "%2e%2e/"}),
        (FOLDER, {"path": "..\\"}),
        (FOLDER, {"path": "\uff0e\uff0e/"}),
        (FOLDER, {"path": "a?b"}),
        (FOLDER, {"path": "vip"}),
        (FOLDER, {"path": "a" * 5000}),
        (FOLDER, {"other": "a"}),
        ("file:///data/a", {"path": "/etc/"}),
        ("file:///data{/folder,name}", {"folder": "..", "name": ""}),
        ("file:///etc/{path}", {"path": "a"}),
    ],
)
@requirement("guard.resources")
def test_a_template_is_not_completed_out_of_its_entry(template: str, values: dict[str, str]) -> None:
    assert find_template(resources("file:///data/**", "file:///data/vip"), template, values) is None


@requirement("guard.load")
def test_long_values_are_not_put_into_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise AssertionError("it was put into the template")

    monkeypatch.setattr(mapping, "quote", refuse)
    assert find_template(resources("file:///data/**"), FOLDER, {"path": "\u00e9" * 4097}) is None


@given(uri=st.text(max_size=12).map("file:///data/".__add__) | st.text(max_size=30))
@requirement("guard.fuzzed")
def test_no_uri_crashes_the_lookup_and_none_gets_out_of_its_folder(uri: str) -> None:
    entry = find_resource(resources("file:///data/**"), uri)
    if entry is not None:
        assert uri.startswith("file:///data/")
        assert not {"..", "."} & set(uri.split("/"))
    find_template(resources("file:///data/**"), uri)
    assert find_template(resources("file:///data/**"), FOLDER, {"path": f"../{uri}"}) is None
