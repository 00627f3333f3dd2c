"""Readers of what an agent's child objects report."""
