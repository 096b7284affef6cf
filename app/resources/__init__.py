"""The resources of the API, one module each: read the input, call core, answer."""
