"""Budgets that are spent, and rules over what is on record: who is told, and who is stopped. See docs/alerts.md."""
