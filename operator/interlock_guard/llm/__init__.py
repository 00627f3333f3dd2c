"""The agent's way to language models."""
