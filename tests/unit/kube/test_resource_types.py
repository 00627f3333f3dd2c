"""Paths of objects: a name leads to the one object of that name, or to none."""

import pytest

from interlock_kube.resource_types import BY_KIND, CONFIG_MAP

OTHER_PATHS = (
    "",
    ".",
    "..",
    "a/b",
    "../secrets/key",
    "a?watch=true",
    "a#b",
    "%2e%2e",
    "a\\b",
    "a b",
    "a\nb",
    "a\x00b",
)


@pytest.mark.parametrize("name", OTHER_PATHS)
def test_no_path_is_made_of_what_would_lead_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of an object"):
        CONFIG_MAP.path("team-a", name)
    with pytest.raises(ValueError, match="is no name of an object"):
        CONFIG_MAP.path(name, "files")
    with pytest.raises(ValueError, match="is no name of an object"):
        CONFIG_MAP.within(name)
    if name:
        with pytest.raises(ValueError, match="is no name of an object"):
            CONFIG_MAP.path("team-a", "files", name)


def test_a_name_is_a_segment_of_the_path() -> None:
    assert CONFIG_MAP.path("team-a", "files.v1") == "/api/v1/namespaces/team-a/configmaps/files.v1"
    assert CONFIG_MAP.path("team-a", "files", "status").endswith("/configmaps/files/status")
    assert BY_KIND["Role"].path("team-a", "system:reader").endswith("/roles/system:reader")
