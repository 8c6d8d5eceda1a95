"""People of the laptop: a people document that its owner signs with cosign, keys, and an application to judge."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cscm_laptop.home import Home
from supply_chain.adapters.tools import Toolbox
from supply_chain.policy.people import FILE
from supply_chain.policy.signed_documents import locate_signature
from tests.support.command import ROOT, cscm
from tests.support.signed_project import owner_key, sign_project

CVE = "CVE-2024-42005"
"""Critical, in Django 4.2.0, and not known to be exploited."""
DECLARATION = """\
kind: service
name: {name}
owner: examples
classification: internal
environments: [staging]
test: {{command: [python3, -m, unittest, -v]}}
probe: {{port: 8080, path: /healthz}}
limits: {{critical: 0, high: null, medium: null, unknown: null}}
"""


def make_key(toolbox: Toolbox, path: Path) -> str:
    """Make a key pair without a password, `path` with the suffixes .key and .pub; return the public key in PEM."""
    cosign = toolbox.find("cosign").with_environment(COSIGN_PASSWORD="")
    cosign.run("generate-key-pair", "--output-key-prefix", path, timeout=60)
    return path.with_suffix(".pub").read_text()


@contextlib.contextmanager
def signed_people(home: Home, content: Mapping[str, Any]) -> Iterator[None]:
    """The project has a people document with this content, which its owner signed; afterwards it has none.

    Policies and environments that do not ship are signed again, before and after.
    """
    document = ROOT / FILE
    assert not document.exists()
    document.write_text(yaml.safe_dump({"installation": "laptop", **content}))
    try:
        signed = cscm("people", "sign", "--key", owner_key(home))
        assert signed.status == 0, signed.stderr
        sign_project(home)
        yield
    finally:
        for file in (document, locate_signature(document)):
            file.unlink(missing_ok=True)
        sign_project(home)


def write_old_django(path: Path) -> Path:
    """Write a service with an old Django that no list of dependencies mentions; its name is the directory's."""
    made = Path(shutil.copytree(ROOT / "examples/outdated", path))
    dockerfile = made / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("apache-airflow==1.10.3 ", ""))
    (made / "supply-chain.yaml").write_text(DECLARATION.format(name=path.name))
    (made / "revision").write_text(os.urandom(8).hex())
    return made
