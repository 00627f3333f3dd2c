"""The budget of the agent: worst cases, reservations, the slices of its ledgers, and what calls have cost."""
