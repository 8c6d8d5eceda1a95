"""Every role with every action of the project: IAM allows exactly what the table says, with the shipped policies."""

from __future__ import annotations

import base64
import json
from urllib.parse import urlencode

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from supply_chain.adapters.aws.accounts import DEAD, RULE
from supply_chain.adapters.aws.sqs import SqsQueue
from supply_chain.promotion.pushes import read_push
from tests.integration.emulator.roles import ROLES, Account, Role, pushed
from tests.support.emulator import REGION, artifact, put_blob, put_manifest, sha

TABLE = """
                                            development  curation     execution    bridge       lifecycle
get a token for the registry                yes          yes          yes          -            yes
list the repositories                       yes          yes          yes          -            yes
pull dev/hello                              yes          yes          -            -            yes
pull curated/hello                          yes          yes          yes          -            yes
pull curated/base/python                    yes          yes          yes          -            yes
pull evidence/curation/hello                -            yes          yes          -            yes
pull evidence/execution/hello               -            -            yes          -            yes
pull evidence/lifecycle/hello               yes          yes          yes          -            yes
pull verdicts/intake/hello                  -            yes          yes          -            -
pull verdicts/release/hello                 -            yes          yes          -            -
pull verdicts/deploy/staging/hello          -            -            yes          -            -
pull other/hello                            -            -            -            -            -
referrers dev/hello                         yes          yes          -            -            yes
referrers curated/hello                     yes          yes          yes          -            yes
referrers curated/base/python               yes          yes          yes          -            yes
referrers evidence/curation/hello           -            yes          yes          -            yes
referrers evidence/execution/hello          -            -            yes          -            yes
referrers evidence/lifecycle/hello          yes          yes          yes          -            yes
referrers verdicts/intake/hello             -            yes          yes          -            -
referrers verdicts/release/hello            -            yes          yes          -            -
referrers verdicts/deploy/staging/hello     -            -            yes          -            -
push dev/hello                              yes          -            -            -            -
push curated/hello                          -            yes          -            -            -
push curated/base/python                    -            yes          -            -            -
push evidence/curation/hello                -            yes          -            -            -
push evidence/execution/hello               -            -            yes          -            -
push evidence/lifecycle/hello               -            -            -            -            yes
push verdicts/intake/hello                  -            yes          -            -            -
push verdicts/release/hello                 -            yes          -            -            -
push verdicts/deploy/staging/hello          -            -            yes          -            -
push other/hello                            -            -            -            -            -
attach dev/hello                            yes          -            -            -            -
attach curated/hello                        -            yes          -            -            -
attach evidence/curation/hello              -            yes          -            -            -
attach evidence/execution/hello             -            -            yes          -            -
attach evidence/lifecycle/hello             -            -            -            -            yes
attach verdicts/intake/hello                -            yes          -            -            -
attach verdicts/release/hello               -            yes          -            -            -
attach verdicts/deploy/staging/hello        -            -            yes          -            -
describe dev/hello                          yes          yes          -            -            yes
describe curated/hello                      yes          yes          yes          -            yes
describe evidence/execution/hello           -            -            yes          -            yes
create dev/new                              yes          -            -            -            -
create curated/new                          -            yes          -            -            -
create evidence/development/new             -            -            -            -            -
create evidence/curation/new                -            yes          -            -            -
create evidence/execution/new               -            -            yes          -            -
create evidence/lifecycle/new               -            -            -            -            yes
create verdicts/intake/new                  -            yes          -            -            -
create verdicts/release/new                 -            yes          -            -            -
create verdicts/deploy/staging/new          -            -            yes          -            -
create verdicts/new                         -            -            -            -            -
create other/new                            -            -            -            -            -
archive dev/hello                           -            -            -            -            yes
archive curated/hello                       -            -            -            -            yes
archive evidence/curation/hello             -            -            -            -            -
archive evidence/execution/hello            -            -            -            -            -
archive evidence/lifecycle/hello            -            -            -            -            -
archive verdicts/release/hello              -            -            -            -            -
archive verdicts/deploy/staging/hello       -            -            -            -            -
restore dev/hello                           -            -            -            -            yes
restore curated/hello                       -            -            -            -            yes
restore evidence/lifecycle/hello            -            -            -            -            -
delete dev/hello                            -            -            -            -            -
delete curated/hello                        -            -            -            -            yes
delete evidence/curation/hello              -            -            -            -            -
delete evidence/execution/hello             -            -            -            -            -
delete evidence/lifecycle/hello             -            -            -            -            -
delete verdicts/intake/hello                -            yes          -            -            -
delete verdicts/release/hello               -            yes          -            -            -
delete verdicts/deploy/staging/hello        -            -            yes          -            -
remove dev/hello                            -            -            -            -            -
remove curated/hello                        -            -            -            -            -
remove evidence/lifecycle/hello             -            -            -            -            -
remove verdicts/release/hello               -            -            -            -            -
remove verdicts/deploy/staging/hello        -            -            -            -            -
expire curated/hello                        -            -            -            -            -
expire evidence/lifecycle/hello             -            -            -            -            -
grant curated/hello                         -            -            -            -            -
grant evidence/lifecycle/hello              -            -            -            -            -
grant verdicts/release/hello                -            -            -            -            -
grant verdicts/deploy/staging/hello         -            -            -            -            -
move tags curated/hello                     -            -            -            -            -
move tags evidence/lifecycle/hello          -            -            -            -            -
sign alias/cscm-development                 yes          -            -            -            -
sign alias/cscm-curation                    -            yes          -            -            -
sign alias/cscm-execution                   -            -            yes          -            -
sign alias/cscm-lifecycle                   -            -            -            -            yes
sign alias/cscm-curation-verdicts           -            yes          -            -            -
sign alias/cscm-execution-verdicts          -            -            yes          -            -
encrypt alias/cscm-storage                  -            yes          -            -            -
encrypt alias/cscm-content                  -            yes          -            -            -
decrypt alias/cscm-content                  -            -            yes          -            -
receive cscm-pushed                         -            -            -            yes          -
send cscm-pushed                            -            -            -            yes          -
receive cscm-pushed-dead                    -            -            -            yes          -
send cscm-pushed-dead                       -            -            -            yes          -
show cscm-pushed                            -            -            -            -            -
show cscm-pushed-dead                       -            -            -            yes          -
count cscm-pushed                           -            -            -            -            -
count cscm-pushed-dead                      -            -            -            yes          -
purge cscm-pushed                           -            -            -            -            -
purge cscm-pushed-dead                      -            -            -            -            -
put a rule                                  -            -            -            -            -
put an event                                -            -            -            -            -
make a user                                 -            -            -            -            -
take the role of curation                   -            -            -            -            -
"""
HEADER, *ROWS = TABLE.strip().splitlines()
MAY = {
    (words.split("  ")[0].strip(), role): permission == "yes"
    for row in ROWS
    for words in [row]
    for role, permission in zip(HEADER.split(), row[44:].split(), strict=True)
}


@pytest.mark.parametrize("role", ROLES)
def test_role_may_do_exactly_what_the_table_says(account: Account, role: str) -> None:
    """It holds for the API of AWS and for the registry."""
    acting = Role(account, role)
    wanted = {action: allowed for (action, of), allowed in MAY.items() if of == role}

    found = {action: acting.may(action) for action in wanted}

    assert len(wanted) > 45
    assert found == wanted
    assert any(found.values())


QUERY = {"Action": "DescribeRepositories"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("role", "service", "target", "query", "headers", "body"),
    [
        ("development", "ecr", "{ecr}PutImageTagMutability", QUERY, {}, "{curated}"),
        ("development", "ecr", "{ecr}BatchDeleteImage", QUERY, {}, "{curated}"),
        ("development", "ecr", "PutImageTagMutability", {}, {}, "{curated}"),
        ("development", "ecr", "x.PutImageTagMutability", QUERY, {}, "{curated}"),
        ("development", "ecr", "{ecr}x.PutImageTagMutability", {}, {}, "{curated}"),
        ("curation", "kms", "TrentService.Decrypt", {"Action": "DescribeKey"}, {}, "{wrapped}"),
        ("bridge", "sts", "x.GetCallerIdentity", {}, FORM, "{role}"),
        ("bridge", "sts", "", {"Action": "GetCallerIdentity", "Version": "2011-06-15"}, FORM, "{role}"),
        ("bridge", "sqs", "AmazonSQS.PurgeQueue", {"Action": "ReceiveMessage"}, {}, "{queue}"),
    ],
    ids=str,
)
def test_request_that_names_two_operations_is_refused(
    account: Account, role: str, service: str, target: str, query: dict[str, str], headers: dict[str, str], body: str
) -> None:
    """The operation that is authorised has to be the one that is executed."""
    of_curation = account.accounts.identities["curation"].role_arn  # type: ignore[index]
    wrapped = {"KeyId": "alias/cscm-content", "CiphertextBlob": base64.b64encode(account.wrapped).decode()}
    old = {"imageDigest": account.old["curated/hello", role]}
    payload = {
        "{curated}": json.dumps(
            {"repositoryName": "curated/hello", "imageTagMutability": "MUTABLE", "imageIds": [old]}
        ),
        "{wrapped}": json.dumps(wrapped),
        "{queue}": json.dumps({"QueueUrl": account.url("cscm-pushed")}),
        "{role}": urlencode(
            {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": of_curation, "RoleSessionName": "x"}
        ),
    }[body]
    named = {"X-Amz-Target": target.format(ecr="AmazonEC2ContainerRegistry_V20150921.")} if target else {}
    before = account.emulator.client("ecr").describe_repositories(repositoryNames=["curated/hello"])["repositories"]

    answer = signed(
        account, role, service, query, {"Content-Type": "application/x-amz-json-1.1", **named, **headers}, payload
    )

    assert answer.status_code in (400, 403), answer.text
    assert "Credentials" not in answer.text and "Plaintext" not in answer.text
    ecr = account.emulator.client("ecr")
    assert ecr.describe_repositories(repositoryNames=["curated/hello"])["repositories"] == before
    assert ecr.describe_images(repositoryName="curated/hello", imageIds=[old])["imageDetails"]


def signed(
    account: Account, role: str, service: str, query: dict[str, str], headers: dict[str, str], body: str
) -> httpx.Response:
    """Send a request that no client would build, with a valid signature of the role."""
    key = account.credentials(role)
    url = f"http://{account.emulator.host}/" + (f"?{urlencode(query)}" if query else "")
    request = AWSRequest("POST", url, data=body, headers=headers)
    SigV4Auth(Credentials(key["key"], key["secret"], key["token"]), service, REGION).add_auth(request)
    made = request.prepare()
    return httpx.post(made.url, content=made.body, headers=dict(made.headers), trust_env=False)


def test_only_pushes_to_dev_reach_the_bridge_queue(account: Account) -> None:
    """Pushes elsewhere, attachments and events with a forged source do not reach it."""
    events, sqs = account.emulator.client("events"), account.emulator.client("sqs")
    rule = events.describe_rule(Name=RULE)
    (target,) = events.list_targets_by_rule(Rule=RULE)["Targets"]
    attributes = sqs.get_queue_attributes(QueueUrl=account.accounts.bridge.queue, AttributeNames=["All"])["Attributes"]

    assert rule["State"] == "ENABLED" and json.loads(rule["EventPattern"])["source"] == ["aws.ecr"]
    assert target["Arn"] == attributes["QueueArn"]
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"].endswith(f":{DEAD}")
    answer = events.put_events(Entries=[{"Source": "aws.ecr", "DetailType": "ECR Image Action", "Detail": "{}"}])
    assert answer["FailedEntryCount"] == 1
    sqs.purge_queue(QueueUrl=account.accounts.bridge.queue)
    with account.emulator.http(account.emulator.login()) as http:
        digest = pushed(http, "dev/hello", "another").headers["Docker-Content-Digest"]
        pushed(http, "curated/hello", "another")
        body = artifact(digest, 1)
        put_blob(http, "dev/hello", b"{}")
        put_manifest(http, "dev/hello", sha(body), body).raise_for_status()
        put_manifest(http, "dev/hello", digest.replace(":", "-"), body).raise_for_status()
    queue = SqsQueue(sqs, account.accounts.bridge.queue, wait=1)
    pushes = [push for each in queue.all() if (push := read_push(each.body))]
    assert [(str(push.image), push.tag) for push in pushes] == [(f"dev/hello@{digest}", "another")]
