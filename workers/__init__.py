"""Dramatiq actors: execute slices of rows, deliver webhooks."""
