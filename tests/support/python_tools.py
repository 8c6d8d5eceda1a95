"""The programs that are installed with this project's Python, as tools."""

from __future__ import annotations

import sys
from pathlib import Path

from supply_chain.adapters.process.command import Tool

_PROGRAMS = Path(sys.executable).parent

BANDIT = Tool("bandit", _PROGRAMS / "bandit", "1")
DETECT = Tool("detect-secrets", _PROGRAMS / "detect-secrets", "1")
