"""Webhook endpoints with secrets of their own, every attempt at a delivery, and deliveries by receiver."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("event_types", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("webhook_endpoint_project_id_fkey")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("webhook_endpoint_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_endpoint_pkey")),
    )
    op.create_index(op.f("webhook_endpoint_project_id_idx"), "webhook_endpoint", ["project_id"], unique=False)
    op.create_table(
        "webhook_secret",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=True),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("webhook_secret_project_id_fkey")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("webhook_secret_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_secret_pkey")),
    )
    op.create_index(op.f("webhook_secret_project_id_idx"), "webhook_secret", ["project_id"], unique=False)
    op.create_index(op.f("webhook_secret_endpoint_id_idx"), "webhook_secret", ["endpoint_id"], unique=False)
    op.create_table(
        "webhook_attempt",
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("excerpt", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("webhook_attempt_pkey")),
    )
    for table in ("webhook_endpoint", "webhook_secret", "webhook_attempt"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY own_rows ON {table} TO llm_service_tenant"
            " USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO llm_service_tenant")
    op.add_column("webhook_delivery", sa.Column("endpoint_id", sa.Uuid(), nullable=True))
    op.add_column("webhook_delivery", sa.Column("receiver", sa.Text(), server_default=sa.text("''"), nullable=False))
    # As the outbox writes it: the project, and the host of the URL.
    op.execute(
        "UPDATE webhook_delivery SET receiver = replace(project_id::text, '-', '') || '/'"
        " || coalesce(substring(url FROM '^[a-zA-Z]+://([^/?#]*)'), '')"
    )
    op.create_index(op.f("webhook_delivery_endpoint_id_idx"), "webhook_delivery", ["endpoint_id"], unique=False)
    op.drop_index("webhook_delivery_due", table_name="webhook_delivery")
    op.create_index(
        "webhook_delivery_due",
        "webhook_delivery",
        ["receiver", "due_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "webhook_delivery_held",
        "webhook_delivery",
        ["receiver"],
        unique=False,
        postgresql_where=sa.text("status = 'pending' AND lease_expires_at IS NOT NULL"),
    )
    op.drop_index("webhook_delivery_list", table_name="webhook_delivery")
    op.create_index("webhook_delivery_list", "webhook_delivery", ["project_id", "id"], unique=False)
