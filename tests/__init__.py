"""Tests, one folder per package, plus e2e."""
