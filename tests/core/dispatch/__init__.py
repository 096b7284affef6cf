"""Tests of the way of a row, against a real database."""
