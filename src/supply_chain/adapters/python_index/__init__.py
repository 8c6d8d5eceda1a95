"""Package indexes of Python, such as PyPI."""

from supply_chain.adapters.python_index.index import PythonIndexes

__all__ = ["PythonIndexes"]
