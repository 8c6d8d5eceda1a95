"""The command-line interface `cscm`. It may import every other package, and contains no logic of its own."""
