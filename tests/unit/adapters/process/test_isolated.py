"""A program that has only its files."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from supply_chain.adapters.process import isolated


def run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", isolated.__file__, "/home", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "SECRET": "word"})


def test_isolated_program_gets_no_variables_of_caller() -> None:
    """There are credentials in it, and the addresses of clusters."""
    done = run("/usr/bin/env")

    assert sorted(done.stdout.splitlines()) == ["HOME=/home", "TMPDIR=/home"]


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_program_and_its_children_get_no_socket(family: str, tmp_path: Path) -> None:
    """So nothing is fetched or asked, whatever a template says."""
    script = tmp_path / "connect.py"
    script.write_text(
        f"import socket\ntry:\n  socket.socket(socket.{family})\nexcept OSError as error:\n  print(error)\n"
    )

    for words in ([sys.executable, str(script)], ["/bin/sh", "-c", '"$0" "$1"', sys.executable, str(script)]):
        done = run(*words)
        assert (done.stdout, done.returncode) == ("[Errno 13] Permission denied\n", 0), done.stderr


def test_program_is_called_as_given() -> None:
    """Its status is the caller's."""
    done = run("/bin/sh", "-c", 'echo "$0 $1"; exit 3', "a b", "c")

    assert (done.stdout, done.returncode) == ("a b c\n", 3)


@pytest.mark.parametrize(("machine", "audit", "number"), [("x86_64", 0xC000003E, 41), ("aarch64", 0xC00000B7, 198)])
def test_filter_knows_the_numbers_of_each_machine(machine: str, audit: int, number: int) -> None:
    """AUDIT_ARCH and the system call, of the kernel's headers; all others are allowed."""
    words = list(struct.iter_unpack("HBBI", isolated.make_filter(machine)))

    assert [each[3] for each in words] == [4, audit, 0x80000000, 0, number, 0x0005000D, 0x7FFF0000]
    assert [each[:3] for each in words] == [
        (0x20, 0, 0), (0x15, 1, 0), (0x06, 0, 0), (0x20, 0, 0), (0x15, 0, 1), (0x06, 0, 0), (0x06, 0, 0),
    ]  # fmt: skip


def test_kernel_that_cannot_filter_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's filter would end every program: this one is none that the kernel accepts."""
    monkeypatch.setattr(isolated, "make_filter", lambda machine: b"\xff" * 8)
    child = os.fork()
    if child == 0:
        try:
            isolated.refuse_sockets()
        except OSError:
            os._exit(7)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert platform.machine() in isolated.MACHINES
