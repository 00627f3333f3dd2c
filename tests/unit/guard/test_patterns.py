import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock_contract.patterns import MAX_SUBJECT, PatternInvalid, compile_names, compile_pattern, compile_uris
from tests.requirements import requirement

ATOMS = ["a", "b", "-", "/", ".", "[ab]", "[^a]", "[a-c1]", "\\d", "\\w", "\\.", "\\[", "[\\]\\-]"]
REPEATS = ["", "", "*", "+", "?", "{2}", "{1,3}", "{0,1}", "{1,}"]
PATTERNS = st.lists(st.tuples(st.sampled_from(ATOMS), st.sampled_from(REPEATS)), min_size=1, max_size=5).map(
    lambda pieces: "".join(atom + repeat for atom, repeat in pieces)
)
TEXTS = st.text(st.sampled_from("ab1c-/.[]\nä"), max_size=8)


@settings(max_examples=400)
@given(pattern=PATTERNS, text=TEXTS)
@requirement("guard.patterns")
def test_the_subset_means_what_it_means_to_python(pattern: str, text: str) -> None:
    expected = re.fullmatch(pattern.replace(".", r"[^\n\r]") if "\\." not in pattern else pattern, text, re.ASCII)
    assert compile_pattern(pattern).matches(text) == (expected is not None)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            "(a)",
            "a|b",
            "^a",
            "a$",
            "a**",
            "a+?",
            "a?+",
            "a{100}",
            "a{,2}",
            "[]",
            "[^]",
            "[a",
            "a]",
            "a\\",
            "\\s",
            "\\b",
        ),
        *("\\1", "(?i)a", "(a+)+", "[[:alpha:]]", "[a-]", "ä", "a\n", "\x00", "{2}", "*", "a" * 257),
        *("[z-a]", "[9-0]", "a{0}", "a{3,2}", "a{0,0}"),
    ],
)
@requirement("guard.patterns")
def test_what_is_beyond_the_subset_or_can_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(PatternInvalid):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a?" * 128, "a" * 129),
        ("a*" * 127 + "b", "a" * MAX_SUBJECT),
        ("a{0,99}" * 36, "a" * MAX_SUBJECT),
        ("[a-z]+" * 42 + "1", "a" * MAX_SUBJECT),
        (".*" * 120 + "x", "ab" * (MAX_SUBJECT // 2)),
    ],
)
@requirement("guard.patterns")
def test_what_ruins_a_backtracking_matcher_costs_nothing_here(pattern: str, text: str) -> None:
    """Python's `re` would not end within the age of the universe on the first of these."""
    matcher = compile_pattern(pattern)
    start = time.process_time()
    assert not matcher.matches(text)
    assert time.process_time() - start < 1


def test_a_text_that_is_too_long_matches_nothing() -> None:
    assert compile_pattern("a*").matches("a" * MAX_SUBJECT)
    assert not compile_pattern("a*").matches("a" * (MAX_SUBJECT + 1))


def test_the_whole_text_must_match_line_breaks_included() -> None:
    for text in ("xa", "ax", "a\n", "\na", "a "):
        assert not compile_pattern("a").matches(text)
    assert not compile_pattern("a.").matches("a\n")


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("get_*", ("get_", "get_a", "get_a.b-c"), ("get", "xget_a", "get_a/b", "Get_a")),
        ("*", ("", "a"), ("a/b", "/")),
        ("fs/*", ("fs/a", "fs/"), ("fs", "fs/a/b", "fsa")),
        ("fs/**", ("fs/a",), ("fs/a/b",)),
        ("get_?", ("get_a", "get_?"), ("get_", "get_ab", "get_/")),
        ("a.[b]+", ("a.[b]+",), ("axb", "a.b")),
        ("*_contact_*", ("a_contact_b", "__contact_contact_"), ("contact",)),
    ],
)
def test_a_glob_of_names(glob: str, matching: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert [text for text in matching if not compile_names([glob]).matches(text)] == []
    assert [text for text in other if compile_names([glob]).matches(text)] == []


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        (
            "crm://c/*",
            ("crm://c/", "crm://c/1"),
            ("crm://c/1/2", "crm://c/1?x", "crm://c/1#x", "crm://c/1&x", "crm://c"),
        ),
        ("crm://c/**", ("crm://c/1/2", "crm://c/1&2"), ("crm://c/1?x", "crm://c/1#x", "crm://d/1")),
        (
            "crm://s?q=*",
            ("crm://s?q=", "crm://s?q=a"),
            ("crm://s?q=a&admin=1", "crm://s", "crm://sxq=a", "crm://s?q=a?b"),
        ),
        ("crm://*/x", ("crm://a/x", "crm:///x"), ("crm://a/b/x",)),
        ("crm://**/x", ("crm://a/b/x",), ("crm://a/b/y",)),
        ("a:b.c", ("a:b.c",), ("a:bxc",)),
    ],
)
def test_a_glob_of_uris(glob: str, matching: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert [text for text in matching if not compile_uris([glob]).matches(text)] == []
    assert [text for text in other if compile_uris([glob]).matches(text)] == []


GLOB = st.text(alphabet="ab/*?", max_size=6)


@requirement("guard.patterns")
@given(st.lists(GLOB, max_size=8), st.text(alphabet="ab/?*", max_size=8))
def test_globs_that_are_compiled_together_match_as_each_one_does(globs: list[str], text: str) -> None:
    for compiled in (compile_names, compile_uris):
        alone = (number for number, glob in enumerate(globs) if compiled([glob]).matches(text))
        assert compiled(globs).first_match(text) == next(alone, None)


@requirement("guard.patterns")
def test_an_item_costs_the_same_with_256_globs_as_with_one_long_glob() -> None:
    globs = [f"file:///data/project-{number:03}/*/report-*.txt" for number in range(256)]
    matcher = compile_uris(globs)
    assert matcher.first_match("file:///data/project-255/a/report-1.txt") == 255
    assert len(matcher._accepts) < 64  # noqa: SLF001 - equal characters of all globs are one entry
