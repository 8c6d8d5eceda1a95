"""What is left of images that are gone, and images that cannot be read.

Those that are gone are read again, and what is still signed of them is kept.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

READABLE = ('"unreadable":""', '"unreadable": ""')
"""As pydantic and as json write it in a document; in no value, for its quotes would be escaped there."""


def upgrade() -> None:
    op.add_column("images", sa.Column("unreadable", sa.Boolean(), nullable=False, server_default=sa.false()))
    images = sa.table("images", sa.column("unreadable", sa.Boolean), sa.column("document", sa.Text))
    readable = sa.or_(*(images.c.document.contains(each) for each in READABLE))
    op.execute(sa.update(images).where(~readable).values(unreadable=sa.true()))
    op.execute("UPDATE images SET mark = '' WHERE gone")
