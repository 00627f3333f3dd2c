"""The waves in which agents get new guards: a rule without memory, so a restart at any moment changes nothing."""

import itertools
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.orchestration.guard_waves import Key, UpdateState, Wave, current_wave, order_agents, wave_rank

UNKNOWN, UPDATED, WAITING, UPDATING, REFUSED, FAILED = UpdateState
SECRET = b"of the installation"
AGENTS = order_agents(((f"team-{number % 3}", f"agent-{number}") for number in range(20)), SECRET)


def states(*found: UpdateState) -> dict[Key, UpdateState]:
    """Return the states of the first agents; all others are updated."""
    return dict.fromkeys(AGENTS, UPDATED) | dict(zip(AGENTS, found, strict=False))


def test_the_order_depends_on_names_and_a_secret_alone_and_mixes_namespaces() -> None:
    assert order_agents(reversed(AGENTS), SECRET) == AGENTS
    assert order_agents(AGENTS, b"of another one") != AGENTS
    assert len({namespace for namespace, _ in AGENTS[:5]}) > 1


def test_a_wave_has_a_percentage_of_all_agents_and_at_least_one() -> None:
    waiting = dict.fromkeys(AGENTS, WAITING)
    assert current_wave(AGENTS, waiting, 10).members == set(AGENTS[:2])
    assert current_wave(AGENTS, waiting, 1).members == {AGENTS[0]}
    assert current_wave(AGENTS, waiting, 100).members == set(AGENTS)
    assert current_wave((), {}, 10) == Wave()


def test_a_tenant_cannot_choose_names_with_which_all_agents_of_others_are_in_one_wave() -> None:
    """Its agents have no pods, so they are updated already and count in the size of a wave."""
    known_secret, others = b"", [("others", f"agent-{number}") for number in range(20)]
    last = wave_rank(order_agents(others, known_secret)[-1], known_secret)
    tried = (("hostile", f"agent-{number}") for number in itertools.count())
    behind = list(itertools.islice((key for key in tried if wave_rank(key, known_secret) > last), 180))
    waiting = dict.fromkeys(behind, UPDATED) | dict.fromkeys(others, WAITING)
    assert current_wave(order_agents(waiting, known_secret), waiting, 10).members == set(others)
    assert len(current_wave(order_agents(waiting, SECRET), waiting, 10).members) < 10


def test_the_next_wave_begins_once_all_agents_of_the_one_before_are_updated() -> None:
    assert current_wave(AGENTS, states(UPDATED, UPDATING, WAITING, WAITING), 10).members == {AGENTS[1]}
    assert current_wave(AGENTS, states(UPDATED, UPDATED, WAITING, WAITING), 10).members == set(AGENTS[2:4])
    assert current_wave(AGENTS, states(), 10).members == frozenset()


def test_no_later_wave_begins_before_an_agent_was_seen() -> None:
    found = states(UPDATED, UNKNOWN, WAITING)
    assert current_wave(AGENTS, found, 10).members == frozenset()
    del found[AGENTS[1]]
    assert current_wave(AGENTS, found, 10).members == frozenset()


def test_an_agent_whose_update_was_refused_tries_again_and_lets_others_pass() -> None:
    found = states(REFUSED, UPDATED, WAITING, WAITING)
    assert current_wave(AGENTS, found, 10).members == {AGENTS[0], *AGENTS[2:4]}
    assert current_wave(AGENTS, states(REFUSED), 10) == Wave(frozenset({AGENTS[0]}), end=20)
    assert current_wave(AGENTS, found | {AGENTS[9]: FAILED}, 10).members == frozenset()


def test_one_failure_stops_all_waves_wherever_it_is() -> None:
    found = states(WAITING, UPDATING) | {AGENTS[-1]: FAILED}
    wave = current_wave(AGENTS, found, 10)
    assert (wave.members, wave.failed) == (frozenset(), (AGENTS[-1],))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 100), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.2]))
def test_any_order_of_events_updates_all_agents_one_wave_at_a_time(
    count: int, percent: int, random: Random, failures: float
) -> None:
    """Each step asks the rule again, as after a restart. An agent that fails is repaired after a while."""
    agents = order_agents((("team", f"agent-{number}") for number in range(count)), SECRET)
    size = max(1, count * percent // 100)
    found = dict.fromkeys(agents, WAITING)
    for _ in range(40 * count):
        wave = current_wave(agents, found, percent)
        under_way = [key for key in agents if found[key] in (UPDATING, FAILED)]
        assert len(under_way) <= size
        assert len({agents.index(key) // size for key in under_way}) <= 1
        steps = [(key, UPDATING) for key in wave.members if found[key] is WAITING]
        assert not (steps and FAILED in found.values())
        steps += [(key, UPDATED) for key in under_way]
        steps += [(key, FAILED) for key in under_way if random.random() < failures]
        if not steps:
            break
        key, state = random.choice(sorted(steps))
        found[key] = state
    assert set(found.values()) == {UPDATED}
