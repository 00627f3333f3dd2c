"""The journal of one pod: it outlives the processes of its guard, and not the pod."""

from collections import defaultdict
from dataclasses import dataclass, field

from interlock_contract.budget.ledger import SliceKey

Charges = dict[str, dict[SliceKey, int]]
"""What was charged, by ledger and slice."""


@dataclass
class Call:
    """A request that costs money.

    Attributes:
        number: Its number.
        worst: Its worst case, which is reserved.
        true: What it really costs once it was forwarded; only the provider knows it before the end.
        keys: The slices from which it was reserved, by ledger.
        closings: How often slices of these keys had been closed before, by ledger; only the audit reads it.
        is_forwarded: It has reached the provider.
    """

    number: int
    worst: int
    true: int
    keys: dict[str, SliceKey] = field(default_factory=dict)
    closings: dict[str, int] = field(default_factory=dict)
    is_forwarded: bool = False


@dataclass
class Journal:
    """The lines of all processes of a pod."""

    reserved: dict[int, Call] = field(default_factory=dict)
    charges: Charges = field(default_factory=lambda: defaultdict(dict))

    def reserve(self, call: Call) -> None:
        """Write the line before a forward."""
        self.reserved[call.number] = call

    def charge(self, call: Call, nanos: int) -> None:
        """Write the line at the end of a request."""
        self.reserved.pop(call.number, None)
        for name, key in call.keys.items():
            self.charges[name][key] = self.charges[name].get(key, 0) + nanos

    def replay(self, name: str, holder: str) -> dict[SliceKey, int]:
        """Return what a former process charged in a ledger."""
        return {key: nanos for key, nanos in self.charges[name].items() if key.holder == holder}
