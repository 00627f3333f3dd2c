"""The brake on the end of withdrawn pods: it slows down where others make each new pod look like one.

Each pod says in an annotation what it was started with. Where something else than Interlock writes it, such as a
mutating webhook, each new pod seems to have more than its policy opens now. The operator would end one after the other.

The brake keeps nothing open. Pods are ended once NetworkPolicies and ServiceAccounts are as they must be, so what is
created after the first end has nothing more, whatever it says. Where the policy opens something else, pods end
immediately again.

    ends at 8:00:00 to :10   at :10 to :20   at :20   then after 20 s, 40 s, 80 s, and so on up to 10 minutes

The rounds are forgotten with the process. The condition of an Agent whose pods waited says so, and then the first round
of the next process counts as the last one without a pause.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from interlock.reconcile.withdrawn_pods import WithdrawnPod
from interlock_kube.resource_types import Key

ROUND: Final = timedelta(seconds=10)
"""How long pods that come one after the other count as one round: a ReplicaSet replaces its pods until it is gone."""
FREE_ROUNDS: Final = 3
"""Rounds without a pause between them."""
LONGEST_PAUSE: Final = timedelta(minutes=10)
FORGOTTEN_AFTER: Final = timedelta(hours=1)
"""After how long without an end the next one counts as the first."""


@dataclass(frozen=True)
class _Rounds:
    """The ends of one placement's pods of one component, since it may use what it may use now.

    Attributes:
        today: What it may use.
        count: The number of rounds.
        began_at: When the last one began.
        ended: The uids of the pods that were ended, as far as they are there still.
    """

    today: str
    count: int
    began_at: datetime
    ended: frozenset[str] = frozenset()

    @property
    def next_at(self) -> datetime:
        """When the next round may begin."""
        if self.count < FREE_ROUNDS:
            return self.began_at + ROUND
        doublings = min(self.count - FREE_ROUNDS + 1, _MOST_DOUBLINGS)
        return self.began_at + min(ROUND * (1 << doublings), LONGEST_PAUSE)


@dataclass(frozen=True)
class Braked:
    """What to do about withdrawn pods now.

    Attributes:
        ended: The pods to end.
        held: The pods that wait.
        rounds: How many rounds have ended pods like those that wait.
        next_at: When the first of those that wait may end; None if none waits.
    """

    ended: tuple[WithdrawnPod, ...] = ()
    held: tuple[WithdrawnPod, ...] = ()
    rounds: int = 0
    next_at: datetime | None = None


class WithdrawalBrake:
    """Remembers the rounds of all Agents."""

    def __init__(self) -> None:
        self._rounds: dict[Key, dict[_Group, _Rounds]] = {}
        self._chosen: dict[Key, dict[_Group, _Rounds]] = {}

    def choose(self, agent: Key, pods: Iterable[WithdrawnPod], now: datetime, *, is_altered: bool = False) -> Braked:
        """Return which withdrawn pods of an Agent end now: those that were ended before, and others in turn.

        Args:
            agent: The Agent.
            pods: Its withdrawn pods.
            now: The time. A clock that went back makes pods end sooner.
            is_altered: Whether the Agent's status says that pods of it waited.
        """
        groups: defaultdict[_Group, list[WithdrawnPod]] = defaultdict(list)
        for pod in pods:
            groups[pod.group].append(pod)
        known = {
            group: rounds
            for group, rounds in self._rounds.get(agent, {}).items()
            if timedelta() <= now - rounds.began_at < FORGOTTEN_AFTER
        }
        ended: list[WithdrawnPod] = []
        held: dict[_Group, list[WithdrawnPod]] = {}
        for group, found in groups.items():
            first = FREE_ROUNDS if is_altered and agent not in self._rounds else 1
            rounds = _turn(known.get(group), found, now, first)
            known[group] = rounds
            ended += [pod for pod in found if pod.uid in rounds.ended]
            if len(rounds.ended) < len(found):
                held[group] = [pod for pod in found if pod.uid not in rounds.ended]
        self._chosen[agent] = known
        return Braked(
            tuple(ended),
            tuple(pod for found in held.values() for pod in found),
            max((known[group].count for group in held), default=0),
            min((known[group].next_at for group in held), default=None),
        )

    def record(self, agent: Key) -> None:
        """Note that the pods that were chosen last were ended, and that nothing more than today's is open."""
        chosen = self._chosen.pop(agent, {})
        self._rounds.pop(agent, None)
        if chosen:
            self._rounds[agent] = chosen

    def forget(self, agent: Key) -> None:
        """Forget an Agent that is gone."""
        self._rounds.pop(agent, None)
        self._chosen.pop(agent, None)


_Group = tuple[str, ...]
"""Stage, revision and component of a placement."""
_MOST_DOUBLINGS: Final = 10


def _turn(rounds: _Rounds | None, pods: list[WithdrawnPod], now: datetime, first: int) -> _Rounds:
    """Return the rounds of a placement after this turn. Pods of it that are not among those that end wait.

    Args:
        rounds: The rounds until now, None for none.
        pods: Its withdrawn pods.
        now: The time.
        first: The number of a round that follows none.
    """
    uids, today = frozenset(pod.uid for pod in pods), pods[0].today
    if rounds is None or rounds.today != today:
        return _Rounds(today, first if rounds is None else 1, now, uids)
    if uids <= rounds.ended:  # their deletion is tried again
        return replace(rounds, ended=uids)
    if now >= rounds.next_at:
        return _Rounds(today, rounds.count + 1, now, uids)
    # A ReplicaSet replaces its pods by their like until it is gone.
    return replace(rounds, ended=uids if rounds.count < FREE_ROUNDS else uids & rounds.ended)
