"""The demo: a real cluster, an agent that rolls out stage by stage, and the switch that stops it.

Each step is data: a command as a user would type it, what its answer must be like, and one sentence that says what to
see in it. A small executor runs them in order and stops at the first answer that is not as it should be.
"""
