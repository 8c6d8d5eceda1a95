"""Images that the intake gate judged, with their facts: none are stored before the next reconciliation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "offered",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository", sa.String(length=256), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("application", sa.String(length=256), nullable=False),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=71), nullable=False, server_default=""),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offered")),
        sa.UniqueConstraint("repository", "digest", name=op.f("uq_offered_repository_digest")),
    )
    op.create_index(op.f("ix_offered_digest"), "offered", ["digest"])
    op.create_index(op.f("ix_offered_application"), "offered", ["application"])
