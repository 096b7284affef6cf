"""Faults thrown at a running house, and the invariants that must hold after each. See docs/chaos.md."""
