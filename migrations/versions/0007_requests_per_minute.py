"""A project's own limit of requests to the API."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("project", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
