"""The notifier: a program that posts the budget alerts of one AgentPolicy to its webhooks."""
