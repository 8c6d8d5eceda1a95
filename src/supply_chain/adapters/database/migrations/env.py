"""Run by Alembic, on the connection that it was given."""

from __future__ import annotations

from alembic import context

from supply_chain.adapters.database.schema import VERSION
from supply_chain.adapters.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION)
with context.begin_transaction():
    context.run_migrations()
