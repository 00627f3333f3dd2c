from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.bundle import BundleArgumentRule, BundleResource
from interlock_contract.mapping import find_resource
from interlock_contract.paths import PathUnreadable, interpretations
from interlock_guard.decision.constraints import MAX_TEXT, MAX_VALUES, describe, find_broken_rule
from tests.requirements import requirement

FOLDER = BundleArgumentRule("/path", prefix="/data/")
KIND = BundleArgumentRule("/path", enum=("a", "false", "1"))
MOST = BundleArgumentRule("/path", maximum=100)
SHAPE = BundleArgumentRule("/path", pattern="[a-z]{2}-\\d+")


def keeps(rule: BundleArgumentRule, value: Any) -> bool:
    return find_broken_rule((rule,), {"path": value}) is None


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (
            FOLDER,
            [
                *(
                    "/data/a",
                    "/data/a/b.txt",
                    "/data/",
                    "/data",
                    "/data/...",
                    "/data/.hidden",
                    "/data/a..b",
                    "/data/a%20b",
                ),
                *(
                    "/data/caf\u00e9",
                    "/data/cafe\u0301",
                    "/data/50% off",
                    "/data/a . b",
                    "/data/\uff41",
                    "/data/%c3%a4",
                    "/data/ ",
                    "/data/{a,b}/c",
                    "/data/Lovelace, A., 1843",
                ),
            ],
        ),
        (BundleArgumentRule("/path", prefix="SUP-"), ["SUP-1", "SUP-", "SUP-x/y"]),
        (BundleArgumentRule("/path", prefix="/"), ["/", "/etc/passwd"]),
        *(
            (BundleArgumentRule("/path", prefix=prefix), [f"{prefix}{rest}" for rest in ("", "/", "/a", "?q=1", "#f")])
            for prefix in ("https://a.example", "//server", "s3://bucket")
        ),
        (BundleArgumentRule("/path", prefix="https://"), ["https://a.example", "https://b.example/"]),
        (BundleArgumentRule("/path", prefix="https://a.example/v"), ["https://a.example/v1"]),
        (KIND, ["a", "false", "1"]),
        (MOST, [0, 100, 99.5, 1]),
        (SHAPE, ["ab-1", "zz-123"]),
        (
            BundleArgumentRule("/path", pattern="/data/[^/]+"),
            ["/data/a..b", "/data/...", "/data/50% off", "/data/caf\u00e9"],
        ),
        (BundleArgumentRule("/path", pattern=".*"), ["", "Wait... what?", "a/b, c.", "1.5", "v1..v2", "100%"]),
    ],
)
@requirement("guard.arguments")
def test_a_value_that_the_rule_allows_keeps_it(rule: BundleArgumentRule, values: list[Any]) -> None:
    assert [value for value in values if not keeps(rule, value)] == []
    assert keeps(rule, values)


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (
            FOLDER,
            [
                *("/data/../etc/passwd", "/data/..", "/data/a/../../etc", "/data/./a", "/data/a/.", "/data\\..\\etc"),
                *("/data/%2e%2e/etc", "/data/..%2fetc", "/data/%2E%2E%5Cetc", "/data/%252e%252e/x", "/data/a%00"),
                *(
                    "/data/a\x00",
                    "/data/a\n",
                    "/data/\x1b[0m",
                    "/database",
                    "/dat",
                    "data/a",
                    " /data/a",
                    "/DATA/a",
                    "",
                ),
                *("//data/a", "/etc/passwd", "file:///data/a", ["/data/a", "/etc/passwd"]),
                # Readings of a server that decodes, normalises or drops white space.
                *("/data/..%3b/etc", "/data/..%3fx", "/data/..%23", "/data/.. /etc", "/data/. ./etc", "/data/..\u3000"),
                *("/data/\uff0e\uff0e/etc", "/data/..\uff0fetc", "/data/..\uff3cetc", "/data/\u2025/etc"),
                *("/data/{a,..}/etc", "/data/{..,a}/etc", "/data/{a,../etc}", "/data/{..}/etc", "/data/..:/etc"),
                *("/data/%ef%bc%8e./etc", "/data/..%ef%bc%8fetc", "/data/\uff05\uff12e./etc", "/data/%u002e./etc"),
                *(
                    "/data/%c0%ae%c0%ae/etc",
                    "/data/%ff",
                    "/data/..\u2215etc",
                    "/data/..\u00a5etc",
                    "/data/.\u200b./etc",
                ),
            ],
        ),
        *(
            (
                BundleArgumentRule("/path", prefix=prefix),
                [
                    f"{prefix}{rest}"
                    for rest in (".evil", "@evil/", ":pw@evil/", "x/", "\\@evil", "%2f@evil/", "\uff0fa")
                ],
            )
            for prefix in ("https://a.example", "https://a.example:443", "//server", "s3://bucket")
        ),
        (
            BundleArgumentRule("/path", prefix="https://a.example/"),
            ["https://a.example.evil/", "https://a.example@evil/"],
        ),
        (BundleArgumentRule("/path", prefix="SUP-"), ["sup-1", "XSUP-1", "SUP", "SUP-1/../x"]),
        (BundleArgumentRule("/path", prefix="/"), ["", "/..", "relative"]),
        (KIND, ["b", "A", " a", "", False, 1, ["a", "b"], ["a", 1]]),
        (MOST, [101, -1, -0.5, 100.5, "5", True, False, [5, 101], [5, "5"], [[5]]]),
        (
            BundleArgumentRule("/path", pattern="/data/[^/]+"),
            [
                *("/data/..", "/data/.", "/data/..\\etc", "/data/%2e%2e", "/data/..%2fetc", "/data/\uff0e\uff0e"),
                *("/data/.. ", "/data/%c0%ae.", "/data/a\x00.txt", "/data/{a,..}"),
            ],
        ),
        (SHAPE, ["AB-1", "ab-", "xab-1", "ab-1x", "ab-1\n", 5]),
    ],
)
@requirement("guard.arguments")
def test_a_value_that_the_rule_does_not_allow_breaks_it(rule: BundleArgumentRule, values: list[Any]) -> None:
    assert [value for value in values if keeps(rule, value)] == []


@pytest.mark.parametrize("rule", [FOLDER, KIND, MOST, SHAPE])
@requirement("guard.arguments")
def test_what_is_missing_or_of_another_type_breaks_every_rule(rule: BundleArgumentRule) -> None:
    for arguments in ({}, None, {"Path": "/data/a"}, {"path": None}, {"path": []}, {"path": {}}, {"path": {"a": "a"}}):
        assert find_broken_rule((rule,), arguments) == 0


def test_a_pointer_leads_into_objects_and_lists() -> None:
    assert find_broken_rule((BundleArgumentRule("/a/0/b~1c", maximum=1),), {"a": [{"b/c": 1}]}) is None
    assert find_broken_rule((BundleArgumentRule("/a/1/b~1c", maximum=1),), {"a": [{"b/c": 1}]}) == 0


@requirement("guard.arguments")
def test_every_rule_must_hold_and_the_first_broken_one_is_named() -> None:
    rules = (
        BundleArgumentRule("/a", maximum=5),
        BundleArgumentRule("/b", maximum=5),
        BundleArgumentRule("/a", maximum=3),
    )
    assert find_broken_rule(rules, {"a": 3, "b": 5}) is None
    assert find_broken_rule(rules, {"a": 4, "b": 5}) == 2
    assert find_broken_rule(rules, {"a": 4, "b": 6}) == 1


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (FOLDER, "must begin with '/data/' and have no path traversal"),
        (KIND, "must be one of a, false, 1"),
        (MOST, "must be a number from 0 to 100"),
        (SHAPE, "must match '[a-z]{2}-\\\\d+' and have no path traversal"),
    ],
)
def test_a_rule_is_said_in_words(rule: BundleArgumentRule, words: str) -> None:
    assert describe(rule) == words


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "a"]), inner, max_size=2),
    max_leaves=8,
)


@given(arguments=JSON, rule=st.sampled_from([FOLDER, KIND, MOST, SHAPE]))
@requirement("guard.fuzzed")
def test_no_arguments_crash_a_rule(arguments: Any, rule: BundleArgumentRule) -> None:
    assert find_broken_rule((rule,), arguments) in (0, None)


@given(tail=st.text(st.sampled_from("./\\a%2eEfF5cC\0 "), max_size=10))
@requirement("guard.fuzzed")
def test_nothing_below_a_prefix_traverses_out_of_it(tail: str) -> None:
    if keeps(FOLDER, f"/data/{tail}"):
        parts = tail.replace("\\", "/").split("/")
        assert ".." not in parts
        assert "." not in parts


_SPELLINGS = {
    ".": (".", "%2e", "%2E", "\uff0e", "%ef%bc%8e", "%u002e", "\u2024", ".\u200b", ". "),
    "/": ("/", "%2f", "\\", "%5c", "\uff0f", "%ef%bc%8f", "\u2215", "\u2044", "\uff3c", "\u20a9"),
    ";": (";", "%3b", "\uff1b", "?", "%3f", "#", "/", ""),
}


@given(data=st.data())
@requirement("guard.arguments")
def test_no_spelling_of_a_step_up_is_below_a_prefix(data: st.DataObject) -> None:
    step = "".join(
        data.draw(st.sampled_from(_SPELLINGS[one])) for one in data.draw(st.sampled_from(["..;", "/..;", "./..;"]))
    )
    escapes = data.draw(st.integers(0, 2))
    for _ in range(escapes):
        step = step.replace("%", "%25")
    assert not keeps(FOLDER, f"/data/a/{step}")
    assert located_below_data(f"file:///data/a/{step}") is None


def located_below_data(uri: str) -> BundleResource | None:
    return find_resource((BundleResource("file:///data/**", "read", "r"),), uri)


@pytest.mark.parametrize(
    "text",
    ["\ufdfa" * 40, "a" + "\u0301\u0327" * 16, "%252525252e", "%c0%ae"],
    ids=["growth", "marks", "layers", "bytes"],
)
@requirement("guard.load")
def test_a_path_whose_readings_would_take_long_or_cannot_be_told_breaks_the_rule(text: str) -> None:
    with pytest.raises(PathUnreadable):
        list(interpretations(text))
    assert not keeps(FOLDER, f"/data/{text}" if text[0] == "%" else f"/data/{text * 40}")


@requirement("guard.load")
def test_a_rule_is_not_kept_by_more_values_or_text_than_are_checked() -> None:
    assert keeps(MOST, [1] * MAX_VALUES)
    assert not keeps(MOST, [1] * (MAX_VALUES + 1))
    assert keeps(FOLDER, "/data/" + "a" * (MAX_TEXT - 6))
    assert not keeps(FOLDER, "/data/" + "a" * (MAX_TEXT - 5))
    assert not keeps(FOLDER, ["/data/" + "a" * 100] * (MAX_TEXT // 100))
