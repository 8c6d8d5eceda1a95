"""Images of which only the deployments are known, which images are archived, and which the starter database judged.

Nothing is forgotten or read again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

WRITTEN = {
    "archived": ('"status":"ARCHIVED"', '"status": "ARCHIVED"'),
    "starter": ('"kind":"starter"', '"kind": "starter"'),
}
"""As pydantic and as json write it in a document; in no value, for its quotes would be escaped there."""


def upgrade() -> None:
    for name in ("archived", "gone", "starter"):
        op.add_column("images", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
    for name, texts in WRITTEN.items():
        images = sa.table("images", sa.column(name, sa.Boolean), sa.column("document", sa.Text))
        written = sa.or_(*(images.c.document.contains(each) for each in texts))
        op.execute(sa.update(images).where(written).values({name: sa.true()}))
