"""The narrower of two lists, words and durations."""

import pytest

from interlock.deployment.narrowing import (
    Covers,
    covers_domain,
    covers_name,
    covers_prefix,
    longer,
    meet_lists,
    meet_order,
)
from tests.requirements import requirement


@requirement("revision.narrower")
@pytest.mark.parametrize(
    ("covers", "reviewed", "today", "wanted"),
    [
        (covers_name, "a b", "b c", "b"),
        (covers_name, "a b", "*", "a b"),
        (covers_name, "*", "b c", "b c"),
        (covers_name, "* a", "* b", "* b"),
        (covers_name, "a", "", ""),
        (covers_prefix, "a/*", "a/x b/*", "a/x"),
        (covers_prefix, "a/x b/*", "a/*", "a/x"),
        (covers_prefix, "a/x*", "a/xy a/* c", "a/xy a/x*"),
        (covers_prefix, "a/x", "a/xy", ""),
        (
            covers_domain,
            "example.com",
            "a.example.com .example.com EXAMPLE.com",
            "a.example.com .example.com EXAMPLE.com",
        ),
        (covers_domain, ".example.com", "example.com a.example.com", "a.example.com .example.com"),
        (covers_domain, "example.com", "evilexample.com", ""),
    ],
)
def test_both_lists_permit_what_is_left(covers: Covers, reviewed: str, today: str, wanted: str) -> None:
    assert meet_lists(reviewed.split(), today.split(), covers) == tuple(wanted.split())


@requirement("revision.narrower")
def test_entries_that_do_not_concern_the_agent_stay_and_permit_nothing() -> None:
    assert meet_lists(["a", "b"], ["*", "b"], ignores=lambda one: one == "*") == ("*", "b")


@requirement("revision.narrower")
def test_the_narrower_word_and_the_longer_time_hold() -> None:
    order = ("None", "Public", "Private")
    assert meet_order("Private", "Public", narrowest_first=order) == "Public"
    assert meet_order("None", "Public", narrowest_first=order) == "None"
    assert longer("90s", "1m") == "90s"
    assert longer("60s", "1m") == "1m"  # equal: as it is written today
