"""The compiler of the price book, from the pinned genai-prices."""
