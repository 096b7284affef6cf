"""/v1/project: what the project of a key sets for itself."""

from __future__ import annotations

from typing import Any

from flask import Response

from app import auth
from app.answers import answer
from app.log_schemas import ProjectChange, ProjectSchema
from app.openapi import Blueprint
from core import project_settings

blueprint = Blueprint("project", "The project's own settings")

_PROJECT = {
    "id": "proj_0199aa54e7f27c3d9d2b6f1f0a4c8e11",
    "tenant_id": "tenant_0199aa54e7f27c3d9d2b6f1f0a4c8e10",
    "name": "production",
    "log_bodies": "full",
    "retention_days": 90,
    "on_unknown_outcome": "retry",
    "requests_per_minute": 600,
    "created_at": "2026-11-23T12:00:00.000000Z",
}


@blueprint.get("/v1/project")
@blueprint.response(200, ProjectSchema, example=_PROJECT)
def get_project() -> Response:
    """The project and its settings."""
    return answer(project_settings.get(auth.principal()))


@blueprint.patch("/v1/project")
@blueprint.arguments(ProjectChange, example={"log_bodies": "metadata_only", "retention_days": 30})
@blueprint.response(200, ProjectSchema, example=_PROJECT)
def change_project(given: dict[str, Any]) -> Response:
    """Change settings; what is left out stays. They hold for what ends from now on."""
    return answer(project_settings.change(auth.principal(), given))
