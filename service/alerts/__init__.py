"""Alerts: what is new, told to the operator's own receiver, signed. Imports `store`; the refresher starts it."""
