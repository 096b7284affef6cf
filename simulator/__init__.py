"""A faithful stand-in for OpenAI and Anthropic, for the demo, the tests and the benchmarks."""
