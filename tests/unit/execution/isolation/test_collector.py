"""What a collector printed is read only if it is whole and as it should be: the container may have printed it."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import Any

import pytest

from supply_chain.execution.isolation import collector
from supply_chain.execution.isolation.collector import read_output
from supply_chain.execution.isolation.collector_program import format_lines
from supply_chain.model.image import digest_of

FILE: dict[str, Any] = {
    "path": "/tmp/x", "mode": "-rw-r--r--", "size": 4, "user": 7, "group": 7, "changed": "2026-11-24T12:00:00+00:00",
    "modified": "2026-11-24T12:00:00+00:00", "digest": digest_of(b"evil"),
}  # fmt: skip
FOUND: dict[str, Any] = {
    "processes": [{"pid": 1}], "files": [FILE], "unread": {"/root": "denied"},
    "contents": [base64.b64encode(b"evil").decode()],
}  # fmt: skip


def printed(found: object) -> str:
    return "\n".join(format_lines(found))


def test_output_has_contents_by_their_digests() -> None:
    """The digest is computed here, whatever the list says; other files are missing, except empty ones and links."""
    more = [{**FILE, "path": "/b", "digest": digest_of(b"other")}, {**FILE, "path": "/c", "size": 0},
            {**FILE, "path": "/a", "digest": digest_of(b"second")}, {**FILE, "path": "/d", "digest": None}]  # fmt: skip

    found = read_output(printed({**FOUND, "files": [FILE, *more]}))

    assert found.contents == {digest_of(b"evil"): b"evil"} and found.processes == [{"pid": 1}]
    assert found.unread == {"/root": "denied"} and found.missing == ["/a", "/b"]


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Traceback",
        printed(FOUND).partition("\n")[0],
        printed(FOUND).replace("\n", "!\n"),
        printed(FOUND)[:-1] + "x",
        printed({**FOUND, "files": [{**FILE, "digest": "../x"}]}),
        printed({**FOUND, "files": ["/tmp/x"]}),
        printed({**FOUND, "files": [{**FILE, "path": "x" * 20_001}]}),
        printed({**FOUND, "processes": ["x"]}),
        printed({**FOUND, "contents": ["!"]}),
        printed({**FOUND, "unread": {"x": "y" * 201}}),
        printed({**FOUND, "more": []}),
        printed({"files": []}),
        printed("x"),
    ],
    ids=range(14),
)
def test_other_output_is_refused(output: str) -> None:
    """Nothing of it is used, and nothing else fails because of it."""
    with pytest.raises(ValueError, match="its output"):
        read_output(output)


def test_unpacked_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes can unpack to gigabytes."""
    monkeypatch.setattr(collector, "MOST_UNPACKED", len(json.dumps(FOUND)))
    assert read_output(printed(FOUND))
    monkeypatch.setattr(collector, "MOST_UNPACKED", len(json.dumps(FOUND)) - 1)

    with pytest.raises(ValueError, match="cannot be read"):
        read_output(printed(FOUND))


def test_output_that_is_not_packed_is_refused() -> None:
    """Its digest alone says nothing."""
    content = b"not packed"
    line = base64.b64encode(content).decode()

    with pytest.raises(ValueError, match="cannot be read"):
        read_output(f"{line}\ncscm-collected {hashlib.sha256(content).hexdigest()}")
    packed = zlib.compress(b"no document")
    with pytest.raises(ValueError, match="cannot be read"):
        read_output(f"{base64.b64encode(packed).decode()}\ncscm-collected {hashlib.sha256(packed).hexdigest()}")
