"""Models that search by themselves: no member of a request bounds what a call of one costs. Pure.

Such a model bills its searches, what it has read in them, and what it has thought about that, in addition to the prompt
and the limit of the output. The book knows these rates, and nothing bounds the numbers. So an administrator must state
what a call costs at most besides prompt and limit, as `perCall` of a declared price.

    gpt-4o, with webSearch in its price     searches only with a tool, which the guard refuses
    sonar, with request in its price        a fee for each call covers its searches
    sonar-deep-research, gpt-5-search-api   needs perCall
"""

import re
from itertools import pairwise
from typing import Final

from interlock_contract.budget.prices import ModelPrice

_WORDS: Final = re.compile(r"[^a-z0-9]+")
_SEARCHING: Final = frozenset({"search", "sonar", "online", "compound", "deepsearch"})
"""Words in the names of such models: OpenAI's `-search-preview`, Perplexity's, `:online` of OpenRouter, Groq's."""
_DEEP_RESEARCH: Final = ("deep", "research")


def searches_by_itself(model: str, price: ModelPrice | None) -> bool:
    """Return True if a model searches without being asked to.

    Args:
        model: The provider's name for it.
        price: What the book says of it, None if it is not there. Only such models have a price of citations.
    """
    words = _WORDS.split(model.lower())
    if not _SEARCHING.isdisjoint(words) or _DEEP_RESEARCH in pairwise(words):
        return True
    return price is not None and any(row.citation is not None for row in price.rows)


def has_bound(price: ModelPrice) -> bool:
    """Return True if the book's price of such a model has a fee for each call, and nothing that is unbounded."""
    return all(row.request > 0 and row.web_search == 0 and row.citation is None for row in price.rows)
