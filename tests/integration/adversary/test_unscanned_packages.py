"""Packages that no vulnerability database covers: a scan without findings must not admit them."""

from __future__ import annotations

import pytest

from tests.integration.adversary.attacked import Adversary, Make
from tests.support.command import cscm

pytestmark = pytest.mark.real

DOCKERFILE = """\
FROM curated/base/python AS below

FROM scratch AS test
COPY subject /
USER 10001:10001

FROM scratch
COPY os-release /etc/os-release
COPY package /var/lib/dpkg/status.d/hat-of-nobody
COPY --from=below /usr/share/zoneinfo/UTC /usr/share/zoneinfo/UTC
COPY subject revision /
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["/subject"]
"""
PACKAGE = """\
Package: hat-of-nobody
Status: install ok installed
Version: 2.6.1
Architecture: amd64
Maintainer: nobody
Description: nothing
"""
FILES = {"Dockerfile": DOCKERFILE, "os-release": 'ID=debian\nVERSION_ID="99"\n', "package": PACKAGE}


def test_release_gate_refuses_unknown_distribution_until_accepted(
    bases: None, application: Make, adversary: Adversary
) -> None:
    """A false version in os-release hides every finding; the owner may accept that, and the verdict lists it."""
    source = application("foreign", FILES)

    first = cscm("chain", str(source), "--json")

    assert first.reasons() == {"scan.distribution-unknown"}
    assert first.result["gate"] == "release"
    assert "1 package of debian 99, about which" in first.result["reasons"][0]["fact"]

    notes = adversary.notes_after_acceptance(source, "  unknown_distribution: true\n")
    assert any(
        note.startswith("no scanner judges this, and the owner accepts it: 1 package of debian 99") for note in notes
    ), notes
    assert any(note.startswith("built with curated/base/python but not on it") for note in notes), notes
