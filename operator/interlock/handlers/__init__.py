"""The handlers that kopf calls, a few lines each. No other package imports kopf."""
