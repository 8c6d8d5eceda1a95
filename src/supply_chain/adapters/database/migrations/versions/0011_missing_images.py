"""An image that the registry no longer has is `missing`."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.alter_column("images", "gone", new_column_name="missing")
    # JSON has a backslash before a quote in a text, so that this is the field alone.
    op.execute("""UPDATE images SET document = REPLACE(document, '"gone":', '"missing":')""")
