"""What cannot be imported, in a sentence that names the place, the value and the way out."""


class ImportRefusedError(Exception):
    """Something that cannot be imported.

    Attributes:
        sentences: One for each problem. None of them holds a value that may be a secret.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


def shown(value: object, longest: int = 80) -> str:
    """Return a value as one short line of ASCII, whatever is in it."""
    text = ascii(value)
    return text if len(text) <= longest else f"{text[:longest]}..."
