"""OpenAI's surface: what the unmodified `openai` package calls, with only its base URL and key changed."""

from __future__ import annotations

from flask import Flask

# The modules put their routes on the blueprint as they are imported.
from app.openai_surface import batches, chat, embeddings, files, models  # noqa: F401
from app.openai_surface.routes import blueprint


def register(app: Flask) -> None:
    """Add the surface's routes to the application."""
    models.register(app)
    app.register_blueprint(blueprint)
