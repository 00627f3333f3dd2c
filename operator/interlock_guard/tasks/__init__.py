"""The way in: tasks for the agent, taken in, checked, bounded, passed on and counted."""
