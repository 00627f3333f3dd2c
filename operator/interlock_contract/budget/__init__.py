"""Budgets: what the programs that count, hold and spend money must agree on. Pure."""
