"""May it pass? Pure, and closed wherever something is missing, stale or unknown."""
