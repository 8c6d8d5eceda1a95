"""Facts of the gates: none are stored before the next reconciliation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "gate_facts",
        sa.Column("image", sa.Integer(), nullable=False),
        sa.Column("gate", sa.String(length=16), nullable=False),
        sa.Column("environment", sa.String(length=256), nullable=False),
        sa.Column("version", sa.String(length=71), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["image"], ["images.id"], name=op.f("fk_gate_facts_image"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image", "gate", "environment", name=op.f("pk_gate_facts")),
    )
