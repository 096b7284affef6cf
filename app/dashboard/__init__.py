"""The dashboard: static pages for a browser, which call the public API with the user's own keys and nothing else."""
