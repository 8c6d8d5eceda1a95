"""Published verdicts with real keys in KMS: plain cosign reads the current one, and no other role can change it."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.errors import AccessDenied
from supply_chain.evidence.published import PublishedVerdicts, locate_verdict, read_current_verdict
from supply_chain.evidence.statement import SUMMARY
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import make_summary
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import JUDGE, Gate, TierName
from tests.integration.emulator.roles import Account
from tests.support.emulator import REGION

pytestmark = pytest.mark.real

REASON = {"code": "image.blocked", "fact": "ann blocked it", "remedy": "unblock it"}


def clock() -> datetime:
    return datetime.now(UTC)


def ecr_of(account: Account, tier: TierName) -> Ecr:
    return Ecr(session_of(account, tier).client("ecr"), account.emulator.host)


def session_of(account: Account, tier: TierName) -> AwsSession:
    who = account.accounts.identities[tier]
    url = f"http://{account.emulator.host}"
    return AwsSession(who.access_key_id, who.secret_access_key, who.role_arn, REGION, url)


def verdicts_of(account: Account, tier: TierName, toolbox: Toolbox) -> EvidenceStore:
    """Return the published verdicts, with a role's registry access and its own verdict key."""
    ecr, session = ecr_of(account, tier), session_of(account, tier)
    registry = Registry(RegistryHttp(account.emulator.host, ecr.credentials, insecure=True))
    key = f"awskms:///{account.accounts.identities[tier].verdict_alias}"
    cosign = Cosign(toolbox.find("cosign"), key, account.emulator.host, ecr.docker_config, True, session.environment)
    trusted = {judge: account.accounts.identities[judge].verdict_public_key or "" for judge in set(JUDGE.values())}
    return EvidenceStore(tier, registry, cosign, trusted, clock)


def publish(account: Account, ref: ImageRef, tier: TierName, toolbox: Toolbox, *, yes: bool) -> None:
    """Publish a verdict of the deploy gate for staging with a tier's role and key."""
    predicate = make_summary(
        ref, Gate.DEPLOY, "sha256:" + "9" * 64, reasons=[] if yes else [REASON], notes=(), inputs=(), now=clock(),
        environment="staging",
    ).predicate()  # fmt: skip
    PublishedVerdicts(verdicts_of(account, tier, toolbox), ecr_of(account, tier)).prepare(ref, predicate, clock())()


def test_cosign_reads_current_verdict_that_only_its_tier_writes(
    account: Account, toolbox: Toolbox, tmp_path: Path
) -> None:
    """An enforcer needs the public key, the image's digest and read access, and no code of this project."""
    ref = ImageRef(repository="curated/hello", digest=account.images["curated/hello"])
    place = locate_verdict(ref, Gate.DEPLOY, "staging")
    key = tmp_path / "verdicts.pub"
    key.write_text(account.accounts.identities[TierName.EXECUTION].verdict_public_key or "")
    reader = verdicts_of(account, TierName.EXECUTION, toolbox)

    def plain(given: Path) -> subprocess.CompletedProcess[str]:
        tool, ecr = toolbox.find("cosign"), ecr_of(account, TierName.EXECUTION)
        with ecr.docker_config() as config:
            return subprocess.run(
                [tool.path, "verify-attestation", "--key", given, "--insecure-ignore-tlog", "--allow-insecure-registry",
                 "--type", SUMMARY, f"{account.emulator.host}/{place}"],
                env={"DOCKER_CONFIG": str(config), "HOME": str(tmp_path)},
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip

    for yes in (True, False, True, False):
        publish(account, ref, TierName.EXECUTION, toolbox, yes=yes)

        done = plain(key)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        predicate = json.loads(base64.b64decode(json.loads(line)["payload"]))["predicate"]
        assert predicate["verificationResult"] == ("PASSED" if yes else "FAILED")
        assert read_current_verdict(reader, ref, Gate.DEPLOY, "staging").admits is yes
        assert len(reader.referrers.referrers(place)) == 1
    with pytest.raises(AccessDenied):
        publish(account, ref, TierName.CURATION, toolbox, yes=True)
    other = tmp_path / "other.pub"
    other.write_text(account.accounts.identities[TierName.EXECUTION].public_key)
    assert plain(other).returncode != 0, "the tier's key for evidence does not verify it"
    assert not read_current_verdict(reader, ref, Gate.DEPLOY, "staging").admits
