"""Content that hides in an image: behind links, in build steps, in archives, or under a false distribution."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import docker
import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.image.layers import read_contents
from supply_chain.development.content import Contents
from supply_chain.evidence.examination import PrivilegedFile
from tests.integration.adversary.attacked import Adversary, Make
from tests.support.command import Ran, cscm
from tests.support.layered import MIB, layered, packed
from tests.support.place import placed

pytestmark = pytest.mark.real

ARM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\xb7\0" + b"x" * 600


def entry(name: str, content: bytes = b"", mode: int = 0o755, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.mode, member.size = mode, len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def link(name: str, to: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=to)


def contents(directory: Path, *layers: list[tuple[tarfile.TarInfo, bytes]]) -> Contents:
    """Return what the checks see of an image of these layers, after the real engine loaded it."""
    archive = directory / "image.tar"
    digest = layered(archive, [packed(each) for each in layers])
    client = docker.from_env()
    try:
        with archive.open("rb") as file:
            client.images.load(file)
        found = read_contents(DockerEngine.connect(), digest, MIB)
    finally:
        client.images.remove(digest, force=True)
        client.close()
    assert found is not None
    return found


def test_setuid_file_behind_linked_directory_is_found(tmp_path: Path) -> None:
    """A later layer hides the name that the file was written by, but not the file."""
    found = contents(
        tmp_path,
        [entry("usr/bin", type=tarfile.DIRTYPE), link("a", "/usr/bin"), entry("a/su", b"x", 0o4755)],
        [entry("a/.wh.su")],
    )

    assert found.examination.privileged_files == (PrivilegedFile(path="/usr/bin/su", rights="setuid"),)
    assert any("through the link" in each for each in found.examination.conflicts)


def test_world_writable_system_file_behind_link_is_found(tmp_path: Path) -> None:
    """The link is of a later layer, and the engine merges both."""
    found = contents(tmp_path, [entry("srv/passwd", b"x", 0o666)], [link("etc/passwd", "../srv/passwd")])

    assert found.examination.privileged_files == (PrivilegedFile(path="/srv/passwd", rights="world-writable"),)


def test_foreign_program_behind_link_is_found(tmp_path: Path) -> None:
    """The links are relative, absolute and above the root."""
    found = contents(
        tmp_path,
        [entry("opt/x", type=tarfile.DIRTYPE), link("opt/b", "../../../opt/x"), link("c", "/opt/b")],
        [link("opt/b", "x"), entry("opt/x", type=tarfile.DIRTYPE), entry("opt/b/arm", ARM)],
    )

    assert found.foreign == {"/opt/x/arm": "AArch64"}


def test_hard_link_with_setuid_mode_marks_both_names(tmp_path: Path) -> None:
    """Both names are the same file."""
    found = contents(
        tmp_path, [entry("su", b"x"), entry("other", mode=0o4755, type=tarfile.LNKTYPE, linkname="su"), link("l", "su")]
    )

    assert {each.path for each in found.examination.privileged_files} == {"/su", "/other"}


SECRET = "ghp_" + "aB3" * 12
LEAKY = """\
FROM curated/base/python AS test
COPY subject /
USER 10001:10001

FROM curated/base/python
USER 0
RUN ["/usr/bin/python3", "-c", "open('/etc/settings', 'w').write('token: ghp_' + 'aB3' * 12)"]
RUN ["/usr/bin/python3", "-c", "import os; os.remove('/etc/settings')"]
COPY subject revision /
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["/subject"]
"""


FORGE = """\
import base64, hashlib, os
site = '/usr/lib/python3/dist-packages/'
code = b'import os, sys; ' + b'os.sys' + b'tem(sys.argv[1])'
digest = base64.urlsafe_b64encode(hashlib.sha256(code).digest()).decode().rstrip('=')
for name, content in {
    'django/__init__.py': code,
    'django-4.2.99.dist-info/METADATA': b'Name: django\\nVersion: 4.2.99\\n',
    'django-4.2.99.dist-info/RECORD': f'django/__init__.py,sha256={digest},1\\n'.encode(),
}.items():
    os.makedirs(os.path.dirname(site + name), exist_ok=True)
    open(site + name, 'wb').write(content)
"""
FORGE_DEBIAN = """\
import hashlib, re
place, code = '/var/lib/dpkg/status.d/libssl3', b'import os, sys; ' + b'os.sys' + b'tem(sys.argv[2])'
open('/usr/lib/evil.py', 'wb').write(code)
open(place + '.md5sums', 'a').write(hashlib.md5(code).hexdigest() + '  usr/lib/evil.py\\n')
status = open(place).read()
open(place, 'w').write(re.sub('(?m)^Version: .*', 'Version: 9.9', status))
"""
FORGE_NPM = """\
import json, os
for place, version in {'/app/node_modules/lodash': '4.17.21', '/app/node_modules/minimist': '1.2.99'}.items():
    os.makedirs(place)
    name = os.path.basename(place)
    open(place + '/package.json', 'w').write(json.dumps({'name': name, 'version': version, 'main': 'lodash.js'}))
    open(place + '/lodash.js', 'w').write('exports.VERSION = "4.17.20"')
"""
ALTERED = LEAKY.replace(
    "COPY subject revision /",
    f"""\
RUN ["/usr/bin/python3", "-c", "exec(bytes.fromhex({FORGE.encode().hex()!r}))"]
RUN ["/usr/bin/python3", "-c", "exec(bytes.fromhex({FORGE_DEBIAN.encode().hex()!r}))"]
RUN ["/usr/bin/python3", "-c", "exec(bytes.fromhex({FORGE_NPM.encode().hex()!r}))"]
HEALTHCHECK CMD ["/usr/bin/python3", "-c", "exec(__import__('sys').argv[1])"]
COPY subject revision dump /""",
)


@pytest.fixture(scope="module")
def examined(bases: None, application: Make) -> Ran:
    """The chain of an image that hides secrets, and in which packages have false records."""
    files = {"Dockerfile": ALTERED, "dump": f"{SECRET}\n" + "x" * 6 * MIB}
    return cscm("chain", str(application("leaky", files)), "--json")


def content_failures(ran: Ran) -> str:
    return " ".join(each["fact"] for each in ran.result["reasons"] if each["code"] == "content.failed")


def test_secrets_in_hidden_layer_and_in_large_file_are_found(examined: Ran) -> None:
    """Everyone who pulls the image has them.

    A build step writes and removes one, which is in no source file. detect-secrets reads files of up to 5 MiB; the
    check of the content covers larger ones.
    """
    facts = content_failures(examined)
    assert "/etc/settings:1: GitHub token" in facts and "/dump:1: GitHub token" in facts, facts
    assert SECRET not in examined.stdout + examined.stderr


def test_python_in_the_configuration_is_read(examined: Ran) -> None:
    """It is in no file."""
    facts = content_failures(examined)
    assert "command-1:1: medium: " in facts and "in a file of the image that the check source did not read" in facts, (
        facts
    )


def test_packages_with_false_records_are_read_and_their_versions_compared(examined: Ran) -> None:
    """A build step can write that a package installed a file, and the version, which a scanner believes."""
    facts = content_failures(examined)
    assert "it claims to be django 4.2.99, a version that the package index does not have" in facts
    assert "/dist-packages/django/__init__.py:1" in facts, facts
    assert "it claims to be libssl3 9.9 (amd64), and the newest that the archives have is 3." in facts
    assert "/usr/lib/evil.py:1" in facts, facts
    assert "it claims to be minimist 1.2.99, a version that the registry does not have" in facts
    assert (
        "it claims to be lodash 4.17.21, and what is published differs from /app/node_modules/lodash/lodash.js" in facts
    )


LIAR = LEAKY.replace(
    "open('/etc/settings', 'w').write('token: ghp_' + 'aB3' * 12)",
    "import os; open('/etc/r', 'w').write('ID=debian\\\\nVERSION_ID=99\\\\n'); "
    "os.remove('/etc/os-release'); os.symlink('r', '/etc/os-release')",
).replace("import os; os.remove('/etc/settings')", "pass")


def test_false_os_release_behind_link_is_refused(bases: None, application: Make) -> None:
    """The scanner trusts os-release, but the base is another distribution."""
    ran = cscm("chain", str(application("liar", {"Dockerfile": LIAR})), "--json")

    assert "sbom.distribution-differs" in ran.reasons()
    facts = [each["fact"] for each in ran.result["reasons"] if each["code"] == "sbom.distribution-differs"]
    assert any(fact.startswith("it names debian 99") and "debian 12" in fact for fact in facts), facts


PACKAGE = """\
Package: innocent
Status: install ok installed
Version: 1.0.1
Architecture: amd64
Maintainer: nobody
Description: nothing
"""
TWOFOLD = """\
FROM curated/base/python AS test
COPY subject /
USER 10001:10001

FROM curated/base/python
COPY status /opt/root/var/lib/dpkg/status
COPY picture.png /usr/share/picture.png
COPY subject revision /
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["/subject"]
"""
ACCEPTED = """\
  unjudged:
    - what: archive
      at: [/usr/share/*]
      reason: the pictures of the manual
    - what: database
      at: [/opt/root/var/lib/dpkg]
      reason: a chroot that nothing starts in
"""


def test_second_database_and_archive_are_refused_until_accepted(
    bases: None, application: Make, adversary: Adversary
) -> None:
    """The owner may accept them in the declaration, and the verdict lists what was accepted."""
    source = application("twofold", {"Dockerfile": TWOFOLD, "status": PACKAGE})
    with zipfile.ZipFile(source / "picture.png", "w") as archive:
        archive.writestr("flask/__init__.py", "x" * 2000)
        archive.writestr("flask-0.1.dist-info/METADATA", "Name: flask\nVersion: 0.1\n")

    first = cscm("chain", str(source), "--json")

    new = {"sbom.second-database", "sbom.archives"}
    assert new <= first.reasons()
    facts = " ".join(each["fact"] for each in first.result["reasons"])
    assert "/opt/root/var/lib/dpkg (dpkg)" in facts and "/usr/share/picture.png (zip)" in facts

    notes = adversary.notes_after_acceptance(source, ACCEPTED)
    for what in ("the archive /usr/share/picture.png", "the package database /opt/root"):
        assert any(note.startswith(f"no scanner judges this, and the owner accepts it: {what}") for note in notes), (
            notes
        )


PRINTER = """\
FROM curated/base/python AS test
COPY subject /
USER 10001:10001

FROM scratch
COPY subject revision /
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["/subject"]
"""


def test_fake_test_output_is_refused_where_test_reports_are_required(bases: None, application: Make) -> None:
    """Elsewhere it is a warning, because the chain cannot know every test runner."""
    source = application("printer", {"Dockerfile": PRINTER})
    declaration = source / "supply-chain.yaml"
    with placed("shown", ["printer"], {"test_report": "required"}):
        text = declaration.read_text().replace("[/subject, status-0]", "[/usr/bin/python3, -c, print('12 passed')]")
        declaration.write_text(text.replace("environments: [", "environments: [shown, "))
        ran = cscm("chain", str(source), "--json")

    assert ran.reasons() == {"tests.report-missing"}
