"""A package database in an image that claims files of other packages: it must not hide any finding."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.vulndb import has_distribution, make_grype_environment, read_database
from supply_chain.vulnerability.scanner import Sbom

pytestmark = pytest.mark.real
INSTALLED = "usr/lib/python3/dist-packages/Django-4.2.0.dist-info/"
IMAGE = {
    "etc/os-release": b'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n',
    "var/lib/dpkg/status": b"Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 12.4\n"
    b"Maintainer: x\nDescription: x\n\n",
    f"{INSTALLED}METADATA": b"Metadata-Version: 2.1\nName: Django\nVersion: 4.2.0\n",
    f"{INSTALLED}RECORD": b"django/__init__.py,,\n",
}
CLAIMS: dict[str, dict[str, bytes]] = {
    "deb": {
        "var/lib/dpkg/status": IMAGE["var/lib/dpkg/status"] + b"Package: x\nStatus: install ok installed\n"
        b"Architecture: amd64\nVersion: 4.2.0\nMaintainer: x\nDescription: x\n\n",
        "var/lib/dpkg/info/x.list": f"/{INSTALLED}METADATA\n".encode(),
        "var/lib/dpkg/info/x.md5sums": f"{'d' * 32}  {INSTALLED}METADATA\n".encode(),
    },
    "alpm": {
        "var/lib/pacman/local/x-4.2.0-1/desc": b"%NAME%\nx\n\n%VERSION%\n4.2.0-1\n\n%BASE%\nx\n\n%ARCH%\nx86_64\n\n",
        "var/lib/pacman/local/x-4.2.0-1/files": f"%FILES%\n{INSTALLED}METADATA\n{INSTALLED}RECORD\n\n".encode(),
        "var/lib/pacman/local/x-4.2.0-1/mtree": gzip.compress(
            f"#mtree\n/set type=file mode=644\n./{INSTALLED}METADATA time=1.0 size=1 sha256digest=aa\n".encode()
        ),
    },
    "portage": {
        "var/db/pkg/app-x/x-4.2.0/CONTENTS": f"obj /{INSTALLED}METADATA aa 1\nobj /{INSTALLED}RECORD aa 1\n".encode(),
        "var/db/pkg/app-x/x-4.2.0/SIZE": b"1\n",
        "var/db/pkg/app-x/x-4.2.0/LICENSE": b"MIT\n",
    },
}


def layout(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Write an OCI layout of an image with these files in one layer (OCI image 1.1, "Image Layout")."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        (blobs / name).write_bytes(content)
        return f"sha256:{name}"

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    of_layer = put(layer.getvalue())
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [of_layer]}})
    oci = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json",
        "config": {"mediaType": f"{oci}.config.v1+json", "digest": put(config.encode()), "size": len(config)},
        "layers": [{"mediaType": f"{oci}.layer.v1.tar", "digest": of_layer, "size": len(layer.getvalue())}],
    }  # fmt: skip
    text = json.dumps(manifest).encode()
    named = {"mediaType": manifest["mediaType"], "digest": put(text), "size": len(text)}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def found(directory: Path, files: Mapping[str, bytes], tools: Toolbox, database: Path) -> set[str]:
    """Return the findings in Django of a scan by the real syft and grype."""
    made = tools.find("syft").run("scan", f"oci-dir:{layout(directory, files)}", "--output", "syft-json", timeout=120)
    about = read_database(database).facts
    scanner = Grype(
        tool=tools.find("grype"), environment=make_grype_environment(database), database=lambda: about,
        knows=lambda distribution: has_distribution(database, distribution), now=lambda: datetime.now(UTC),
    )  # fmt: skip
    report = scanner.scan(Sbom(made.stdout.encode(), len(json.loads(made.stdout)["artifacts"]), "syft"))
    return {finding.id for finding in report.findings if finding.package.lower() == "django"}


@pytest.mark.parametrize("kind", CLAIMS)
def test_package_database_of_image_hides_no_finding(home: Home, toolbox: Toolbox, tmp_path: Path, kind: str) -> None:
    """Grype ignores packages whose files a distribution package claims to own."""
    plain = found(tmp_path / "plain", IMAGE, toolbox, home.database)

    assert plain
    assert found(tmp_path / kind, {**IMAGE, **CLAIMS[kind]}, toolbox, home.database) == plain
