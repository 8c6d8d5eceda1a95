"""Schemas of the values of charts: what they may refer to."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

import pytest

from supply_chain.errors import DeclarationInvalid
from supply_chain.execution.kubernetes import chart_schemas
from supply_chain.execution.kubernetes.chart_schemas import check_schemas

ELSEWHERE = {"$ref": "https://example.com/a.json"}


def pack(files: dict[str, bytes]) -> bytes:
    """Return a packed chart."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("pages/link.tgz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return stream.getvalue()


def check(schema: Any, name: str = "hello/values.schema.json") -> None:
    check_schemas({"hello/Chart.yaml": b"{", name: json.dumps(schema).encode()})


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/values"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"allOf": [{"$ref": "#/definitions/a"}, {"$dynamicRef": "#a"}, {"$recursiveRef": "#"}]},
        {"properties": {"$ref": {"type": "string"}, "$schema": {"type": "string"}}},
    ],
    ids=str,
)
def test_schema_that_refers_to_itself_is_read(schema):
    """In every language that helm has; a value may be called like a keyword."""
    check(schema)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        (ELSEWHERE, "https://example.com/a.json"),
        ({"properties": {"a": {"items": [{"$ref": "other.json#/a"}]}}}, "other.json#/a"),
        ({"$dynamicRef": "file:///etc/passwd"}, "file:///etc/passwd"),
        ({"$recursiveRef": "urn:a"}, "urn:a"),
        ({"a": [{"$ref": "b"}, {"$ref": "a"}, {"$ref": "b"}]}, "a, b"),
        ({"$schema": "https://example.com/language"}, "https://example.com/language"),
    ],
    ids=str,
)
def test_schema_with_external_reference_is_refused(schema, named):
    """helm would read it, and everything is to be in the project."""
    with pytest.raises(DeclarationInvalid) as raised:
        check(schema)

    assert str(raised.value).startswith(f"hello/values.schema.json refers to {named}, which is elsewhere.")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\xff", b"[" * 100_000])
def test_schema_that_is_no_json_is_refused(content):
    """The error names the file."""
    with pytest.raises(DeclarationInvalid, match=r"^hello/charts/a/values.schema.json is not valid JSON"):
        check_schemas({"hello/charts/a/values.schema.json": content})


def test_other_files_are_no_schemas():
    """Of any name; the schema of values is the one that helm applies."""
    check(ELSEWHERE, "hello/schema.json")
    check(ELSEWHERE, "hello/values.schema.json.txt")


@pytest.mark.parametrize("depth", [1, 2])
def test_schema_in_packed_chart_is_read(depth):
    """A dependency may be packed, with dependencies of its own."""
    good, bad = (json.dumps(each).encode() for each in ({}, ELSEWHERE))
    for schema, refused in ((good, False), (bad, True)):
        content = pack({"pages/values.schema.json": schema, "pages/Chart.yaml": b"{"})
        for _ in range(depth - 1):
            content = pack({"pages/charts/pages.tgz": content})
        files = {"hello/charts/pages.tgz": content}
        if refused:
            with pytest.raises(DeclarationInvalid, match=r"^hello/charts/pages.tgz/pages/.*values.schema.json refers"):
                check_schemas(files)
        else:
            check_schemas(files)


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", pack({"a": b"b" * 20_000})[:100], gzip.compress(b"x" * 2000)],
    ids=["empty", "text", "cut", "no-archive"],
)
def test_packed_chart_that_cannot_be_read_is_refused(content):
    """Nobody knows what is in it."""
    with pytest.raises(DeclarationInvalid, match=r"^hello/charts/a.tgz is not a packed chart"):
        check_schemas({"hello/charts/a.tgz": content})


@pytest.mark.parametrize("packed", [1, 2])
def test_packed_charts_are_limited_together(monkeypatch, packed):
    """A few bytes may unpack to any number, also if they are charts themselves; each member has a header."""
    files = {f"hello/charts/{number}.tgz": pack({"a/b": b"0" * 600}) for number in range(packed)}
    monkeypatch.setattr(chart_schemas, "MOST_BYTES", packed * (600 + 2 * 512))
    check_schemas(files)
    monkeypatch.setattr(chart_schemas, "MOST_BYTES", packed * (600 + 2 * 512) - 1)

    with pytest.raises(DeclarationInvalid, match=r"at hello/charts/0.tgz"):
        check_schemas(files)


def test_chart_that_contains_itself_is_limited(monkeypatch):
    """As often as it likes."""
    monkeypatch.setattr("supply_chain.execution.kubernetes.chart_schemas.MOST_BYTES", 1024**2)
    content = pack({"a/values.schema.json": b"{}"})
    for _ in range(20):
        content = pack({f"a/{number}.tgz": content for number in range(10)})

    with pytest.raises(DeclarationInvalid, match="have more than"):
        check_schemas({"hello/charts/a.tgz": content})
