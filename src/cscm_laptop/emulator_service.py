"""The AWS emulator as a service: its own Python environment, pinned by hashes, and its process."""

from __future__ import annotations

import sys
from pathlib import Path

import boto3
from pydantic import ValidationError

from cscm_laptop.home import Home
from cscm_laptop.ports import HOST, answers
from cscm_laptop.prefect_server import hash_files
from cscm_laptop.profile import Profile
from cscm_laptop.services import Progress, Service
from supply_chain.adapters.aws.accounts import AccessKey
from supply_chain.adapters.process.command import run
from supply_chain.errors import ComponentFailed

LOCK = Path("deployments/emulator.lock")
CODE = Path("src/cscm_laptop/emulator")
HEALTH = "/_cscm/health"


def make_endpoint_url(profile: Profile) -> str:
    """Return the URL where AWS clients reach the emulator."""
    return f"http://{HOST}:{profile.ports.emulator}"


def locate_root_key(home: Home) -> Path:
    """Return the path of the root key of the emulated account; the emulator makes it at its first start."""
    return _state(home) / "root-key.json"


def _state(home: Home) -> Path:
    return home.state / "aws"


def environment_fits(home: Home) -> bool:
    """Return whether the emulator's environment is complete and made from the current lock file."""
    stamp = home.emulator / "made-from"
    return stamp.is_file() and stamp.read_text(encoding="ascii") == _wanted(home)


def _wanted(home: Home) -> str:
    return hash_files([home.project / LOCK], sys.version)


def ensure_environment(home: Home, progress: Progress) -> None:
    """Make the emulator's Python environment, unless it is up to date.

    Every package must have the hash that the lock file lists. With -P, Python imports nothing from the caller's
    directory. Raises `ComponentFailed` if a command fails.
    """
    if environment_fits(home):
        return
    progress("emulator: making its Python environment")
    python, settings = home.emulator / "bin" / "python", {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": ""}
    base = getattr(sys, "_base_executable", sys.executable)
    install = ("install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement")
    for argv, limit in (
        ([base, "-P", "-m", "venv", "--clear", str(home.emulator)], 120),
        ([str(python), "-P", "-m", "pip", *install, str(home.project / LOCK)], 600),
    ):
        done = run(argv, name=" ".join(["python", *argv[2:4]]), timeout=limit, environment=settings)
        if done.status != 0:
            raise ComponentFailed(
                f"The emulator's environment could not be made: {(done.stderr or done.stdout)[-1500:].strip()}\n"
                "Check that the package index can be reached, then run `cscm up` again."
            )
    (home.emulator / "made-from").write_text(_wanted(home), encoding="ascii")


def make_emulator_service(home: Home, profile: Profile) -> Service:
    """Return the emulator's service.

    It writes its state to disk before it answers. Its registry is on the same port.
    """
    port, state = profile.ports.emulator, _state(home)
    arguments = ("--host", HOST, "--port", str(port), "--region", profile.region, "--state", str(state))
    return Service(
        name="emulator",
        argv=(str(home.emulator / "bin" / "python"), "-m", "cscm_laptop.emulator", *arguments),
        environment={
            "PYTHONPATH": str(home.project / "src"),
            "PYTHONUNBUFFERED": "1",
        },
        cwd=home.state,
        log=home.log / "emulator.log",
        pid_file=home.run / "emulator.json",
        ready=lambda: answers(port, HEALTH),
        port=port,
        setting="ports.emulator in the profile (deployments/profiles/laptop.yaml)",
        deadline=60,
        changes=hash_files([home.project / LOCK, *(home.project / CODE).rglob("*.py")]),
    )


def open_root_session(key_file: Path, region: str) -> boto3.Session:
    """Return a session of the emulator's root user, from the key file that the emulator made when it started.

    Raises `ComponentFailed` if the file is missing or damaged.
    """
    try:
        root = AccessKey.model_validate_json(key_file.read_bytes())
    except (FileNotFoundError, ValidationError):
        raise ComponentFailed(
            f"{key_file}, the emulator's root key, is missing or damaged.\n"
            "Remove it and run `cscm down` and `cscm up`: the emulator makes a new one when it starts."
        ) from None  # the cause may quote the damaged content, which is a secret
    return boto3.Session(root.access_key_id, root.secret_access_key, region_name=region)
