"""Builders of an agent's child objects."""
