"""The text of a note is its message."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    # JSON has a backslash before a quote in a text, so that this is the field alone.
    op.execute("""UPDATE images SET document = REPLACE(document, '"said":', '"message":')""")
