"""The vulnerability facts that ship with the project, and the database they are compiled into."""
