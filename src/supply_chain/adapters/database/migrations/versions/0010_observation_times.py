"""The time of the last observation of a deployment is `observed_at`."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # JSON has a backslash before a quote in a text, so that this is the field alone.
    op.execute("""UPDATE deployments SET document = REPLACE(document, '"seen":', '"observed_at":')""")
