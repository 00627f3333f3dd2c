"""Why an agent may not run: what every layer's gates answer with."""

from dataclasses import dataclass

from interlock.api.status import Reason


@dataclass(frozen=True)
class Refusal:
    """One missing or wrong thing, named so that its reader can mend it.

    Attributes:
        reason: The stable word for conditions, Events and metrics.
        message: One sentence: the field, the value and the way out.
    """

    reason: Reason
    message: str
