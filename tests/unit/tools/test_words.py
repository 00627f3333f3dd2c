"""The word check refuses each word that readers do not know, wherever they would read it."""

from pathlib import Path

import pytest

from tools import words


def _offenders(root: Path, name: str, text: str) -> list[str]:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return [str(offender) for offender in words.find_offenders(root, ["docs", "operator", "crds", "tests", "tools"])]


@pytest.mark.parametrize(
    ("word", "better"),
    [
        ("anew", "again"),
        ("mend", "fix"),
        ("Whoever", "anyone who"),
        ("demanded", "require"),
        ("no more", "no longer"),
        ("nobody", "no one"),
        ("anybody", "anyone"),
        ("somebody", "someone"),
        ("beside", "next to"),
        ("owed", "pending"),
        ("undercut", "is below"),
        ("greet", "initialize"),
    ],
)
def test_a_refused_word_in_a_page_is_named_with_its_line_and_its_replacement(
    tmp_path: Path, word: str, better: str
) -> None:
    (found,) = _offenders(tmp_path, "docs/page.md", f"# A page\n\nHere stands {word} in a sentence.\n")
    assert found.startswith(f'docs/page.md:3: "{word}" ')
    assert better in found


@pytest.mark.parametrize(
    "source",
    [
        '"""Made anew."""\n',
        'def build() -> str:\n    """Return it, made anew."""\n',
        'MESSAGE = "made anew"\n',
        'NAME = 1\nMESSAGE = f"{NAME} is made anew"\n',
        'LIMIT = 1\n"""Made anew."""\n',
    ],
)
def test_docstrings_and_messages_are_read(tmp_path: Path, source: str) -> None:
    assert len(_offenders(tmp_path, "operator/interlock/module.py", source)) == 1


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("LIMIT = 1  # made anew\n", 1),
        ("LIMIT = 1\n# The owner,\n# whoever that is.\n", 3),
        ("LIMIT = 1  # the server lists it no\n# more\n", 1),
        ("if True:\n    # beside it\n    LIMIT = 1\n", 2),
    ],
)
@pytest.mark.parametrize("folder", ["operator/interlock", "tools/cluster", "tests/unit"])
def test_comments_are_read(tmp_path: Path, folder: str, source: str, line: int) -> None:
    (found,) = _offenders(tmp_path, f"{folder}/module.py", source)
    assert found.startswith(f"{folder}/module.py:{line}: ")


def test_comments_far_apart_are_no_phrase_and_a_hash_in_a_string_is_no_comment(tmp_path: Path) -> None:
    source = "A = 1  # there is no\nB = 2\nC = 3  # more of it\n"
    assert _offenders(tmp_path, "tools/module.py", source) == []
    assert _offenders(tmp_path, "tests/unit/test_module.py", 'USER = "# nobody"  # a name of the system\n') == []


def test_a_test_may_hold_any_word_as_data_but_not_in_a_docstring(tmp_path: Path) -> None:
    source = 'def test_it() -> None:\n    """{}."""\n    assert find("nobody") is None\n'
    assert _offenders(tmp_path, "tests/unit/test_module.py", source.format("Find no user")) == []
    (found,) = _offenders(tmp_path, "tests/unit/test_module.py", source.format("Find nobody"))
    assert found.startswith("tests/unit/test_module.py:2: ")


def test_a_refused_word_in_a_description_of_a_crd_is_found(tmp_path: Path) -> None:
    assert len(_offenders(tmp_path, "crds/agent.yaml", "description: the owner, demanded\n")) == 1


def test_a_word_that_only_contains_a_refused_one_is_none(tmp_path: Path) -> None:
    text = "Besides, we recommend no more than is borrowed, and no moreover.\n"
    assert _offenders(tmp_path, "docs/page.md", text) == []


def test_a_word_broken_over_two_lines_is_found(tmp_path: Path) -> None:
    assert len(_offenders(tmp_path, "docs/page.md", "The tool is listed no\nmore.\n")) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("operator/interlock/module.py", "def look_again() -> None: ...\n"),
        ("operator/interlock/module.py", "class StoreKeeper: ...\n"),
        ("operator/interlock/news.py", ""),
    ],
)
def test_a_coined_name_is_refused(tmp_path: Path, name: str, source: str) -> None:
    (found,) = _offenders(tmp_path, name, source)
    assert "is coined" in found


def test_coined_names_may_be_words_of_a_text(tmp_path: Path) -> None:
    assert _offenders(tmp_path, "docs/page.md", "Look at the news.\n") == []


def test_a_public_class_name_is_there_once(tmp_path: Path) -> None:
    _offenders(tmp_path, "operator/interlock/first.py", "class Plan: ...\nclass _Own: ...\n")
    found = _offenders(tmp_path, "operator/interlock_guard/second.py", "class Plan: ...\nclass _Own: ...\n")
    assert len(found) == 2
    assert all("class Plan is also in" in one for one in found)


def test_all_offenders_are_listed_at_once_and_fail_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _offenders(tmp_path, "docs/page.md", "Made anew.\nMended.\n")
    assert words.main(tmp_path, ["docs"]) == 1
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.nightly  # `make verify`, which comes before every `make test`, checks the same
def test_the_project_keeps_its_own_words() -> None:
    assert words.main() == 0
