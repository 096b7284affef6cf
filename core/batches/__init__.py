"""Batches: taken in, controlled, read and given back."""
