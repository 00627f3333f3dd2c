"""What a revision keeps of the ConfigMaps that it refers to, and what is refused."""

import pytest

from interlock.api.config_maps import (
    MAX_CONFIG_MAPS,
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    ConfigMapProjection,
    ConfigMapVolumeSource,
    EnvFrom,
    KeyToPath,
)
from interlock.api.status import AgentReason
from interlock.deployment.children.config_maps import Copies, build_projection, build_variable, build_variables
from interlock.deployment.config_maps import (
    OF_AGENTS,
    ConfigMapContent,
    ConfigMapUse,
    LiveConfigMap,
    check_config_maps,
    digest_of_kept,
    keep,
    select,
    unread_names,
)
from tests.requirements import requirement

CONTENT = ConfigMapContent(data={"a": "1", "b": "2"}, binary_data={"raw": "AA=="})
LIVE = {"one": LiveConfigMap(CONTENT), "gone": None, "ours": LiveConfigMap(refusal="belongs to Interlock")}


def a_use(name: str = "one", *keys: str, **members: object) -> ConfigMapUse:
    found = ConfigMapUse(name, "spec.template.env[X]", keys or None)
    return ConfigMapUse(**{**vars(found), **members})  # type: ignore[arg-type]


@requirement("revision.config-maps")
@pytest.mark.parametrize(
    ("uses", "kept"),
    [
        ((a_use("one", "a"),), {"a"}),
        ((a_use("one", "a"), a_use("one", "raw", "c", is_optional=True)), {"a", "raw"}),
        ((a_use("one", "a"), a_use("one")), {"a", "b", "raw"}),
        ((a_use("one"), a_use("one", "a")), {"a", "b", "raw"}),
    ],
)
def test_exactly_the_keys_that_are_referred_to_are_kept(uses: tuple[ConfigMapUse, ...], kept: set[str]) -> None:
    assert keep(uses, LIVE)["one"].keys == kept


def test_an_optional_one_that_is_missing_is_kept_as_empty_and_one_that_is_not_known_is_not_kept() -> None:
    assert keep([a_use("gone", is_optional=True)], LIVE) == {"gone": ConfigMapContent()}
    assert keep([a_use("unread")], LIVE) == {}
    assert unread_names([a_use("unread"), a_use("one"), a_use("unread")], LIVE) == ("unread",)
    assert select([a_use("one", "a")], {}) == {}


def test_the_digest_tells_contents_apart_and_is_empty_without_any() -> None:
    one, other = keep([a_use("one", "a")], LIVE), keep([a_use("one", "b")], LIVE)
    assert digest_of_kept({}) == ""
    assert len({digest_of_kept(one), digest_of_kept(other), digest_of_kept({"two": one["one"]})}) == 3


@requirement("config-maps.refused")
@pytest.mark.parametrize(
    ("use", "reason", "said"),
    [
        (a_use("gone"), AgentReason.CONFIG_MAP_MISSING, "ConfigMap gone, to which spec.template.env[X] refers, does"),
        (a_use("one", "c"), AgentReason.CONFIG_MAP_MISSING, "ConfigMap one has no key 'c'"),
        (a_use("ours"), AgentReason.CONFIG_MAP_REFUSED, "refers, belongs to Interlock"),
        (a_use("ours", is_optional=True), AgentReason.CONFIG_MAP_REFUSED, "refers, belongs to Interlock"),
        (a_use("one", "raw", needs_text=True), AgentReason.CONFIG_MAP_REFUSED, "is binary"),
        (a_use("one", "raw", needs_text=True, is_optional=True), AgentReason.CONFIG_MAP_REFUSED, "is binary"),
    ],
)
def test_what_is_missing_or_may_not_be_used_is_named(use: ConfigMapUse, reason: AgentReason, said: str) -> None:
    refusal = check_config_maps([a_use("one", "a"), use], LIVE)
    assert refusal is not None
    assert refusal.reason is reason
    assert said in refusal.message
    if reason is AgentReason.CONFIG_MAP_MISSING:
        assert "set optional: true in spec.template.env[X]" in refusal.message


@pytest.mark.parametrize(
    "use",
    [
        a_use("one", "a", "b"),
        a_use("one"),
        a_use("one", "raw"),
        a_use("one", "c", is_optional=True),
        a_use("gone", is_optional=True),
        a_use("unread"),
        a_use("one", prefix="", reserved=OF_AGENTS),
    ],
)
def test_what_exists_is_optional_or_is_not_known_yet_is_no_refusal(use: ConfigMapUse) -> None:
    assert check_config_maps([use], LIVE) is None


@requirement("config-maps.refused")
@pytest.mark.parametrize(
    ("prefix", "key", "is_refused"),
    [
        ("", "INTERLOCK_SCOPE", True),
        ("INTERLOCK_", "x", True),
        ("INTER", "LOCK_STAGE", True),
        ("", "OPENAI_API_KEY", True),
        ("OPENAI_", "BASE_URL", True),
        ("APP_", "INTERLOCK_SCOPE", False),
        ("", "interlock_scope", False),
    ],
)
def test_no_key_becomes_a_variable_that_only_interlock_sets(prefix: str, key: str, *, is_refused: bool) -> None:
    live = {"one": LiveConfigMap(ConfigMapContent(data={key: "1"}))}
    refusal = check_config_maps([a_use("one", prefix=prefix, reserved=OF_AGENTS)], live)
    assert (refusal is not None) is is_refused
    if refusal is not None:
        assert f"would set the variable {prefix}{key}" in refusal.message


def test_more_config_maps_than_a_revision_can_keep_are_refused() -> None:
    uses = [a_use(f"map-{number}", is_optional=True) for number in range(MAX_CONFIG_MAPS + 1)]
    live = dict.fromkeys((use.name for use in uses), None)
    assert check_config_maps(uses[:-1], live) is None
    refusal = check_config_maps(uses, live)
    assert refusal is not None
    assert f"{MAX_CONFIG_MAPS + 1} ConfigMaps" in refusal.message


COPIES = Copies("triage-0123456789", {"one": CONTENT, "two": ConfigMapContent()})


def test_pods_refer_to_copies_alone() -> None:
    copy = "triage-0123456789-mapa"
    reference = ConfigMapKeySelector(name="one", key="a")
    key = {"configMapKeyRef": {"name": copy, "key": "a"}}
    assert build_variable("X", reference, COPIES) == {"name": "X", "valueFrom": key}
    assert build_variables(EnvFrom(prefix="A_", config_map_ref=ConfigMapEnvSource(name="one")), COPIES) == {
        "prefix": "A_",
        "configMapRef": {"name": copy},
    }
    volume = ConfigMapVolumeSource(name="one", items=(KeyToPath(key="a", path="x/a.txt"),), default_mode=0o440)
    assert build_projection(volume, COPIES) == {
        "name": copy,
        "items": [{"key": "a", "path": "x/a.txt"}],
        "defaultMode": 0o440,
    }


def test_optional_is_left_only_where_a_key_is_missing() -> None:
    missing = ConfigMapKeySelector(name="two", key="a", optional=True)
    assert build_variable("X", missing, COPIES) is None
    assert build_variable("X", ConfigMapKeySelector(name="one", key="a", optional=True), COPIES) is not None
    whole = ConfigMapProjection(name="two", optional=True)
    assert build_projection(whole, COPIES) == {"name": "triage-0123456789-mapb"}
    items = ConfigMapProjection(name="one", items=(KeyToPath(key="c", path="c"),), optional=True)
    assert build_projection(items, COPIES)["optional"] is True


def test_a_config_map_that_is_not_kept_is_that_of_no_object() -> None:
    reference = ConfigMapKeySelector(name="live", key="a")
    variable = build_variable("X", reference, COPIES)
    assert variable is not None
    assert variable["valueFrom"]["configMapKeyRef"]["name"] == "triage-0123456789-map"
