"""The vulnerability facts that are part of the project, and the database that is compiled from them."""
