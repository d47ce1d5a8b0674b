"""Audits: whether a comparison can be trusted. Each finds one way of being fooled."""
