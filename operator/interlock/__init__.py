"""Interlock's control plane: an operator that runs AI agents only while every guard is closed."""
