"""What answers said of their tokens, until a ledger has it: counts by model, next to the bytes that they stand for.

The counts go into the agent's ledger with the next write that it gets anyway. A guard that crashes loses those of the
calls that it had not settled, at most. After a write without an answer, some may be in the ledger twice. They are both
tokens and bytes, so what is compared stays the same.
"""

from msgspec.structs import replace

from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.prices import ModelUsage
from interlock_contract.budget.tokens_per_byte import MAX_TOKEN_MODELS, TokenCount, add_tokens
from interlock_guard.budget.answer_text import TextBytes


class TokenTally:
    """The counts of one guard."""

    def __init__(self) -> None:
        self._counted: dict[str, TokenCount] = {}
        self._offered: dict[str, TokenCount] = {}

    def add(self, model: str, count: TokenCount) -> None:
        """Count a call.

        Args:
            model: The model, as `provider/model`.
            count: Its count.
        """
        if model in self._counted or len(self._counted) < MAX_TOKEN_MODELS:
            self._counted[model] = self._counted.get(model, TokenCount()).plus(count)

    def write(self, ledger: Ledger, now: int) -> Ledger:
        """Return the ledger with the counts.

        Args:
            ledger: The ledger.
            now: Seconds since the epoch, of the API server.
        """
        self._offered = dict(self._counted)
        return replace(ledger, tokens=add_tokens(ledger.tokens, self._offered, now)) if self._offered else ledger

    def accept(self) -> None:
        """Forget the counts that were written."""
        left = {model: count.minus(self._offered.get(model, TokenCount())) for model, count in self._counted.items()}
        self._counted = {model: count for model, count in left.items() if count.calls}
        self._offered = {}


def count_call(usage: ModelUsage, *, sent_bytes: int | None, shown: TextBytes | None) -> TokenCount:
    """Return what one call counts.

    If a usage counts reasoning by itself, only the rest is compared: most providers charge reasoning that they do not
    show.

    Args:
        usage: What its answer says that it used.
        sent_bytes: Bytes of the request, None if they say little of its tokens: it has images, or refers to content.
        shown: The text of the answer, None if it is not known or says little of its tokens.
    """
    has_input = not usage.web_search and not usage.file_search
    size = sent_bytes if sent_bytes is not None and has_input else 0
    text = 0
    if shown is not None and not usage.output_audio and not usage.output_image:
        text = shown.all - (shown.reasoning if usage.reasoning else 0)
    return TokenCount(1, size, usage.input_tokens if size else 0, text, usage.output if text else 0)
