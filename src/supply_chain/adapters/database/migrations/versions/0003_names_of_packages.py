"""Names of packages as they are asked for, and whether an image was scanned.

What is there is forgotten, and every image read again. Until then no image counts as read or scanned, and nothing as
reconciled: an answer says that it knows nothing of them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("DELETE FROM listed_in")
    op.execute("DELETE FROM packages")
    op.execute("UPDATE images SET mark = '', sbom = NULL")
    op.execute("DELETE FROM facts WHERE name = 'reconciled'")
    op.create_table(
        "package_names",
        sa.Column("package", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.Column("version", sa.String(length=400), nullable=False),
        sa.ForeignKeyConstraint(
            ["package"], ["packages.id"], name=op.f("fk_package_names_package"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("package", "position", name=op.f("pk_package_names")),
    )
    op.create_index(op.f("ix_package_names_name"), "package_names", ["name"], unique=False)
    op.drop_index(op.f("ix_packages_name"), table_name="packages")
    op.drop_index(op.f("ix_packages_source"), table_name="packages")
    op.add_column("images", sa.Column("scanned", sa.Boolean(), nullable=False, server_default=sa.false()))
