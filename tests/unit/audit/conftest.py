"""Hypothesis without a stopwatch: the machine may be busy, and its first use builds tables for seconds."""

from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
