"""Tooling for development: nothing of the product imports it."""
