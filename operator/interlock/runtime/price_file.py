"""The file with the price book, read once when the operator starts."""

from pathlib import Path
from typing import Final

from interlock.prices.book import PriceBook, PriceBookInvalid
from interlock.telemetry import PRICE_BOOK_TIMESTAMP

BESIDE_PACKAGES: Final = Path(__file__).parents[2] / "prices.json"
"""The place of the book in the image, and in a checkout."""


class PriceBookMissing(Exception):  # noqa: N818 - named like CredentialsUnavailable
    """The operator has no prices of models. It does not start, because agents would lose their models."""


def read_price_book(file: Path | None) -> PriceBook:
    """Return the price book, and set the metric with its date.

    Args:
        file: Where it is; None for its place next to the packages.

    Raises:
        PriceBookMissing: The file cannot be read, or is no price book of this version.
    """
    file = file or BESIDE_PACKAGES
    try:
        book = PriceBook.parse(file.read_bytes())
    except (OSError, PriceBookInvalid) as error:
        raise PriceBookMissing(
            f"{file} with the prices of models cannot be read: {error}. The operator's image has this file. "
            "In a checkout, run: make prices"
        ) from None
    PRICE_BOOK_TIMESTAMP.set(book.timestamp)
    return book
