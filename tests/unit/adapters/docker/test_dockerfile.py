"""Tests of the requests to the Dockerfile reader, and of how its answers are interpreted.

The tests in tests/integration/dockerfile verify that it reads as BuildKit does.
"""

import base64
import json

import pytest

from supply_chain.adapters.docker import dockerfile
from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.development.dockerfile import INSTRUCTIONS
from supply_chain.errors import DockerfileRefused, SourceInvalid, ToolFailed

ANSWER = {"targets": {"": {"base": "a", "images": ["a"], "sources": [], "execs": [], "others": {}}}}


@pytest.fixture
def reader(program):
    recorded = program("dockerfile-reader")

    def make(script='cat > "$here/asked"', **kwargs):
        return BuildKitReader(recorded.does(script, **kwargs)), recorded

    return make


def test_read_passes_dockerfile_bytes_through_standard_input(reader):
    """No part of the Dockerfile is an argument."""
    made, recorded = reader(stdout=json.dumps(ANSWER))
    content = b"\xef\xbb\xbfFROM a\r\n\x00\xff"

    found = made.read(content, ("", "test"), "linux/amd64", {"A": "1"}, "ns", {"a": b'{"os": "linux"}'})

    asked = json.loads((recorded.directory / "asked").read_bytes())
    assert base64.b64decode(asked.pop("dockerfile")) == content
    assert asked == {
        "targets": ["", "test"],
        "platform": "linux/amd64",
        "build_args": {"A": "1"},
        "namespace": "ns",
        "instructions": INSTRUCTIONS,
        "configs": {"a": {"os": "linux"}},
    }
    assert recorded.calls == [["read"]]
    assert found.targets[""].images == ("a",)


@pytest.mark.parametrize(("stdout", "status"), [("", 0), ("{", 0), ('{"targets": 1}', 0), ("", 2)])
def test_read_raises_tool_failed_for_invalid_answer(reader, stdout, status):
    """A reader that exits with an error fails too."""
    with pytest.raises(ToolFailed):
        reader(stdout=stdout, status=status)[0].read(b"FROM a", ("",), "linux/amd64", {}, "ns", {})


@pytest.mark.parametrize(
    ("script", "stderr"),
    [
        ("kill -9 $$", ""),
        ("", "fatal error: runtime: out of memory\n\nruntime stack:\nruntime.throw({0xc27, 0x16})\n"),
        ("", "runtime: out of memory: cannot allocate 8388608-byte block\nfatal error: out of memory\n"),
        ("", "fatal error: runtime: cannot allocate memory\n"),
        ("", "runtime: goroutine stack exceeds 1000000000-byte limit\nfatal error: stack overflow\n"),
    ],
)
def test_read_refuses_dockerfile_that_exhausts_memory(reader, script, stderr):
    """Either the Go runtime or the kernel ends the reader."""
    with pytest.raises(DockerfileRefused, match="more memory"):
        reader(script, stderr=stderr, status=2)[0].read(b"FROM a", ("",), "linux/amd64", {}, "ns", {})


def test_reader_timeout_refuses_dockerfile_or_ignore_file(reader, monkeypatch):
    """Another time limit would not help: the engine's BuildKit takes as long."""
    monkeypatch.setattr(dockerfile, "TIMEOUT", 0.05)
    made, _ = reader("sleep 60")

    with pytest.raises(DockerfileRefused, match=r"takes more than 0\.05 seconds"):
        made.read(b"FROM a", ("",), "linux/amd64", {}, "ns", {})
    with pytest.raises(SourceInvalid, match=r"ignore file to 2 paths takes more than 0\.05 seconds"):
        made.find_excluded(b"x", ["a", "b"])


@pytest.mark.parametrize("config", [b"{", b'{"x": 1e99999}', b'{"x": NaN}', b'{"x": %s}' % (b"[" * 5000 + b"]" * 5000)])
def test_read_refuses_image_whose_configuration_is_no_json(reader, config):
    """Its registry may answer with anything; the reader would fail, and its owner look for the fault in the reader."""
    made, recorded = reader()

    with pytest.raises(DockerfileRefused, match="configuration of an image"):
        made.read(b"FROM a", ("",), "linux/amd64", {}, "ns", {"a": config})
    assert not recorded.calls


@pytest.mark.parametrize("name", ["ABRT", "SEGV", "TERM"])
def test_read_raises_tool_failed_if_reader_ends_by_other_signal(reader, name):
    """Such a signal is a fault of the reader, so the message must not blame the Dockerfile."""
    with pytest.raises(ToolFailed, match="ended with status -"):
        reader(f"kill -{name} $$")[0].read(b"FROM a", ("",), "linux/amd64", {}, "ns", {})


@pytest.mark.parametrize("stderr", ["panic: out of memory", "cannot allocate memory", "fatal error: deadlock"])
def test_read_raises_tool_failed_with_output_of_reader(reader, stderr):
    """Any other failure does not blame the Dockerfile."""
    with pytest.raises(ToolFailed, match=stderr):
        reader(stderr=stderr, status=2)[0].read(b"FROM a", ("",), "linux/amd64", {}, "ns", {})


def test_left_out_passes_ignore_file_and_paths_unchanged(reader):
    """Paths that are not UTF-8 are passed as bytes."""
    made, recorded = reader(stdout=b"a\0b\xff\0")

    assert made.find_excluded(b"*\n!x\0", ["a", "b\udcff", "x"]) == {"a", "b\udcff"}
    assert (recorded.directory / "asked").read_bytes() == b"5\n*\n!x\0a\0b\xff\0x"


def test_left_out_raises_for_invalid_ignore_file(reader):
    """A guess could add or drop a file of the context."""
    made, _ = reader(status=1, stderr="bad pattern")

    with pytest.raises(SourceInvalid, match="bad pattern"):
        made.find_excluded(b"[", ["a"])
