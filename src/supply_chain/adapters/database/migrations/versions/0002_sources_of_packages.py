"""Sources of packages: what is there is forgotten, and every image read again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("DELETE FROM listed_in")
    op.execute("DELETE FROM packages")
    op.execute("UPDATE images SET mark = ''")
    with op.batch_alter_table("packages") as table:
        table.add_column(sa.Column("source", sa.String(length=400), nullable=False))
        table.add_column(sa.Column("source_version", sa.String(length=400), nullable=False))
        table.create_index(op.f("ix_packages_source"), ["source"])
