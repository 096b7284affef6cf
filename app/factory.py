"""Puts the API together: telemetry, problem details, resources, the document and its pages."""

from __future__ import annotations

from app import anthropic_surface, openai_surface, openapi, operations, problems, rate_limits, telemetry, vendor_routes
from app.application import Application
from app.dashboard import pages as dashboard
from app.resources import (
    admin,
    batches,
    budgets,
    completions,
    logs,
    model_mappings,
    models,
    project_settings,
    providers,
    stats,
    webhooks,
)

#: Every resource of the API; a new surface is a module that joins this list. A surface whose errors have another form
#: than problem details registers its own handlers on its blueprint, and Flask prefers those.
RESOURCES = (
    completions,
    batches,
    logs,
    stats,
    providers,
    model_mappings,
    models,
    project_settings,
    webhooks,
    budgets,
    admin,
    operations,
)


def create_app() -> Application:
    """The WSGI application. It opens nothing: stores are connected at first use, after the server forked."""
    app = Application(__name__, static_folder=None)
    # A path with two slashes is no route; the default answers it with a redirect to another one.
    app.url_map.merge_slashes = False
    telemetry.register(app)
    rate_limits.register(app)
    problems.register(app)
    api = openapi.make_api(app)
    for resource in RESOURCES:
        api.register_blueprint(resource.blueprint)
    openai_surface.register(app)
    anthropic_surface.register(app)
    # After the surfaces: /v1/models/{id} is answered by them without a route of its own.
    vendor_routes.register(app)
    openapi.register_pages(app, api)
    dashboard.register(app)
    return app
