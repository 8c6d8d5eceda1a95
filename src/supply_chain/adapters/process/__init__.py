"""Running external commands: how they are started and ended, and what their errors mean."""
