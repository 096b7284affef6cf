"""OpenAI's surface, driven by the unmodified `openai` package over real sockets."""
