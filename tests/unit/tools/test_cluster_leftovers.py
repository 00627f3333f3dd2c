"""Rules that an earlier engine of ours left: they must not count as another user's."""

from tools.nodeless.packetfilter import removal, without_leftovers

BRIDGE = "ilk-4c52c05e"
OURS = [
    ":DOCKER -",
    ":DOCKER-ISOLATION-STAGE-1 -",
    "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
    f"-A FORWARD -o {BRIDGE} -j DOCKER",
    f"-A DOCKER-ISOLATION-STAGE-1 -i {BRIDGE} ! -o {BRIDGE} -j RETURN",
]
USERS = [":FORWARD ACCEPT", "-A FORWARD -s 192.0.2.1/32 -j DROP"]


def test_what_an_engine_of_ours_left_before_is_taken_away_and_a_users_rule_is_not() -> None:
    before = {"filter": [*USERS, *OURS]}

    assert without_leftovers(before, BRIDGE) == {"filter": USERS}
    script = removal(without_leftovers(before, BRIDGE), before, BRIDGE)
    assert "-X DOCKER\n" in script
    assert f"-D FORWARD -o {BRIDGE} -j DOCKER\n" in script
    assert "192.0.2.1" not in script


def test_chains_that_another_engine_uses_stay_what_was_there_before() -> None:
    theirs = "-A DOCKER -i docker0 -j RETURN"
    kept = without_leftovers({"filter": [*USERS, *OURS, theirs]}, BRIDGE)["filter"]

    assert theirs in kept
    assert ":DOCKER -" in kept
    assert not any(BRIDGE in line for line in kept)


def test_without_a_rule_of_ours_everything_was_there_before() -> None:
    before = {"filter": [*USERS, ":DOCKER -", "-A FORWARD -j DOCKER"]}

    assert without_leftovers(before, BRIDGE) == before
