"""The vendors' own batch APIs: files, batches, their rows and results (PROVIDERS.md 5)."""
