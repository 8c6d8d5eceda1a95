"""What the reader is asked, and what is made of its answers.

That it reads as BuildKit does is tested in tests/integration/dockerfile.
"""

import base64
import json

import pytest

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


def test_a_dockerfile_is_handed_over_byte_by_byte(reader):
    """Through standard input; nothing of it is an argument."""
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
def test_an_answer_that_is_none_is_no_reading(reader, stdout, status):
    """Neither is a reader that fails."""
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
def test_a_dockerfile_that_takes_too_much_memory_is_refused(reader, script, stderr):
    """Whether Go's runtime or the kernel ends the reader."""
    with pytest.raises(DockerfileRefused, match="more memory"):
        reader(script, stderr=stderr, status=2)[0].read(b"FROM a", ("",), "linux/amd64", {}, "ns", {})


@pytest.mark.parametrize("name", ["ABRT", "SEGV", "TERM"])
def test_reader_ended_by_another_signal_has_failed(reader, name):
    """A fault of the reader's, of which no Dockerfile is told to shorten its variables."""
    with pytest.raises(ToolFailed, match="ended with status -"):
        reader(f"kill -{name} $$")[0].read(b"FROM a", ("",), "linux/amd64", {}, "ns", {})


@pytest.mark.parametrize("stderr", ["panic: out of memory", "cannot allocate memory", "fatal error: deadlock"])
def test_a_reader_that_fails_otherwise_has_failed(reader, stderr):
    """The Dockerfile is not blamed for it, and the reader's words are passed on."""
    with pytest.raises(ToolFailed, match=stderr):
        reader(stderr=stderr, status=2)[0].read(b"FROM a", ("",), "linux/amd64", {}, "ns", {})


def test_an_ignore_file_is_handed_over_with_the_paths(reader):
    """Each as it is, also those that are no UTF-8."""
    made, recorded = reader(stdout=b"a\0b\xff\0")

    assert made.left_out(b"*\n!x\0", ["a", "b\udcff", "x"]) == {"a", "b\udcff"}
    assert (recorded.directory / "asked").read_bytes() == b"5\n*\n!x\0a\0b\xff\0x"


def test_an_ignore_file_that_cannot_be_read_is_told(reader):
    """No file is taken for left out or kept by a guess."""
    made, _ = reader(status=1, stderr="bad pattern")

    with pytest.raises(SourceInvalid, match="bad pattern"):
        made.left_out(b"[", ["a"])
