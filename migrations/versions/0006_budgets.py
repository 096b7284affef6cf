"""Budgets with what they have spent, what live calls in flight hold of them, and what a paused batch waits for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "budget",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("limit_usd", sa.Numeric(), nullable=False),
        sa.Column("thresholds", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("on_limit", sa.Text(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spent_usd", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("warned", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("budget_project_id_fkey")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("budget_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("project_id", "period", name=op.f("budget_pkey")),
        # Changed by every commit that costs something: with room on its page that leaves the index alone.
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "budget_hold",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("usd", sa.Numeric(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("budget_hold_pkey")),
    )
    op.create_index(op.f("budget_hold_project_id_idx"), "budget_hold", ["project_id"], unique=False)
    for table in ("budget", "budget_hold"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY own_rows ON {table} TO llm_service_tenant"
            " USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO llm_service_tenant")
    op.add_column("batch", sa.Column("needs_usd", sa.Numeric(), nullable=True))
