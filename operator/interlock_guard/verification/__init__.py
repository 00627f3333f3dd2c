"""A server verified before any agent is attached to it: `python -m interlock_guard verify`."""
