"""What test runners say, so that a run in which nothing was tested does not pass for one."""

from __future__ import annotations

import re

SKIPPED = re.compile(r"\bRan (\d+) tests? in \S+\s+OK \(skipped=\1\)")
"""unittest counts what it skipped."""

SOMETHING = re.compile(
    r"\b[1-9]\d* (?:passed|passing)\b"  # pytest, cargo, jest, vitest, mocha
    r"|\b[1-9]\d* (?:tests?|examples?|specs?)\b(?! (?:skipped|filtered|deselected|files?))"  # unittest, RSpec
    r"|\bTests run: [1-9]"  # JUnit
    r"|^# pass [1-9]|^ok \d"  # TAP, node
    r"|^\s*--- PASS\b|^ok\s+\S+\s+[\d(](?!.*\[no tests)",  # go
    re.IGNORECASE | re.MULTILINE,
)

NOTHING = re.compile(
    r"\b0 (?:tests?|passed|passing|examples|specs)\b|\bTests run: 0\b|^1\.\.0\b|^# (?:tests|pass) 0\b"
    r"|\bno tests? (?:ran|to run|found|executed|files)\b|\bcollected 0 items\b|\b[1-9]\d* skipped\b",
    re.IGNORECASE | re.MULTILINE,
)


def nothing_tested(output: str) -> bool:
    """Whether a run that ended well tested nothing, as far as can be told from what it printed.

    One that printed nothing did. A runner that is not known here is believed.
    """
    said = SKIPPED.sub("Ran 0 tests", output)
    return not said.strip() or bool(NOTHING.search(said) and not SOMETHING.search(said))
