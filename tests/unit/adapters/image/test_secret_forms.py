"""Tests of the known forms of secrets. None of the values here is a real one."""

import base64
import io
import random
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519

from supply_chain.adapters.image import secret_forms
from supply_chain.adapters.image.file_content import ContentStore, read_file
from supply_chain.adapters.image.secret_forms import find_secret_patterns
from supply_chain.adapters.image.vendor_tokens import SHORT

TOKEN = b"ghp_" + b"aB3" * 12
PEM = "private key"


def kinds(content):
    return {kind for _, kind in find_secret_patterns(content)}


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        (TOKEN, ["GitHub token"]),
        (b"-----BEGIN RSA " + b"PRIVATE KEY-----\n" + b"MIIE" * 16, ["private key"]),
        (b"-----BEGIN " + b"PRIVATE KEY-----\\n" + b"MIIE" * 16, ["private key"]),
        (b"-----BEGIN PGP " + b"PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\nComment: mine\n\n" + b"lQOY" * 16, [PEM]),
        (b"---- BEGIN SSH2 " + b'ENCRYPTED PRIVATE KEY ----\nComment: "a\\\nb"\n' + b"P2/5" * 16, [PEM]),
        (b"PuTTY-User" + b"-Key-File-2: ssh-rsa\r\nEncryption: none\r\nComment: mine", [PEM]),
        *(
            (b"-----BEGIN " + b"PRIVATE KEY-----" + (end + b"MIIE" * size) * (16 // size), [PEM])
            for size in (1, 4)
            for end in (b"\n", b"\r\n", b"\\n", b"  \n\t")
        ),
        (b"-----BEGIN " + b"PRIVATE KEY-----" + b"\nM" * 32, [PEM]),
        (b"-----BEGIN " + b"PRIVATE KEY-----" + b"\nM" * 31 + b"\n", []),
        (b"if text.startswith('-----BEGIN RSA " + b"PRIVATE KEY-----'):", []),
        (b"-----BEGIN " + b"PRIVATE KEY----- begins it, and base64 follows in lines of sixty-four letters", []),
        (b"-----BEGIN PGP " + b"PRIVATE KEY BLOCK-----\0Comment: %s\0Version: %s", []),
        (b"PuTTY-User" + b"-Key-File-%d: %s\nEncryption: %s", []),
        (b"id = AKIA" + b"QWERTYUIOPASDFGH", ["AWS access key"]),
        (b"id = AKIA" + b"IOSFODNN7EXAMPLE", []),
        (b"id = ASIA" + b"QWERTYUIOPASDFGH", ["AWS access key"]),
        (b"xAKIA" + b"QWERTYUIOPASDFGHx", ["AWS access key"]),
        (b"_AKIA" + b"QWERTYUIOPASDFGH_", ["AWS access key"]),
        (b"VAKIA" + b"QWERTYUIOPASDFGH\n", ["AWS access key"]),
        (b"MKAKIA" + b"QWERTYUIOPASDFGHIKL", []),
        (b"aws_secret_access_key = " + b"wJalrXUtnFEMIK7MDENGbPxRfiCYabcdefgh1234", ["AWS key"]),
        (b"aws_secret_access_key = " + b"wJalrXUtnFEMIK7MDENGbPxRfiCYabcdefgh123/", ["AWS key"]),
        (b"//registry.npmjs.org/:_authToken=" + b"0123456789abcdef0123", ["npm token"]),
        (b"AWS_SECRET_ACCESS_KEY=" + b"wJalrXUtnFEMIK7MDENGbPxRfiCYabcdefgh1234", ["AWS key"]),
        *((b"gh" + kind + b"_" + b"aB3" * 12, ["GitHub token"]) for kind in (b"o", b"u", b"s", b"r")),
        (b"github_pat" + b"_" + b"aB3" * 22, ["GitHub token"]),
        (b"glpat" + b"-" + b"aB3" * 8, ["GitLab token"]),
        *(
            (b"xox" + kind + b"-123456789012-" + b"aB3" * 8, ["Slack token"])
            for kind in (b"a", b"b", b"e", b"p", b"r", b"s")
        ),
        (b"https://hooks.slack" + b".com/services/T0123ABCD/B0123ABCD/" + b"aB3" * 8, ["Slack webhook"]),
        *((kind + b"_live_" + b"aB3" * 8, ["Stripe key"]) for kind in (b"sk", b"rk")),
        (b"AI" + b"za" + b"aB3-x" * 7, ["Google API key"]),
        (b"npm" + b"_" + b"aB3" * 12, ["npm token"]),
        (b"pypi" + b"-AgE" + b"aB3" * 20, ["PyPI token"]),
        (b"AccountKey" + b"=" + b"aB3+/9" * 14 + b"aB==", ["Azure storage key"]),
        (b"password = hunter2, ghost_story, xoxo-hugs, npm_config", []),
    ],
)
def test_known_secret_formats_are_found(content, kinds):
    """Documented example keys and programs that search for keys contain no secret."""
    assert [kind for _, kind in find_secret_patterns(b"first line\n" + content)] == kinds
    assert all(line == 2 for line, _ in find_secret_patterns(b"first line\n" + content))


BEGIN, END = "-----BEGIN " + "PRIVATE KEY-----", "-----END " + "PRIVATE KEY-----"
LINES = [
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu",
    "NMoSfm76oqFvAp8Gy0iz5sxjZmSnXyCdPEovGhLa0VzMaQ8s+CLOyS56YyCFGeJZ",
]
EVERY_LINE = {
    "C": '"{}\\n"',
    "Java": '    "{}\\n" +',
    "JavaScript": "'{}\\\\n' +",
    "PHP": "    '{}'.PHP_EOL.",
    "Go": '\t"{}\\n" + // a comment',
    "shell comment": "# {}",
    "C comment": "// {}",
    "SQL comment": "-- {}",
    "quoted": "> {}",
    "YAML list": "  - {}",
    "YAML list of quoted": '  - "{}"',
    "HTML": "{}<br>",
    "HTML entity": "{}&#10;",
    "diff": "+{}",
    "XML elements": "<line>{}</line>",
    "Python list": '    b"{}",',
}


@pytest.mark.parametrize("every", EVERY_LINE.values(), ids=EVERY_LINE)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""], ids=["lf", "crlf", "one line"])
@pytest.mark.parametrize("headers", [[], ["Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC," + "0A" * 16, ""]])
def test_private_key_in_decorated_lines_is_found(every, end, headers):
    """Source code, comments and markup put other characters around each line."""
    key = end.join(every.format(line) for line in [BEGIN, *headers, *LINES, END])

    assert kinds(key.encode()) == {PEM}


@pytest.mark.parametrize("between", ["\\\\n", "\\\\r\\\\n", "\\u000a", "%0A", "", "|", " \\\n"])
def test_private_key_in_one_line_is_found(between):
    """What escapes a line break may be escaped itself, and JSON may escape the slash."""
    assert kinds(between.join([BEGIN, *LINES, END]).encode()) == {PEM}
    for slash in ("\\/", "%2F", "\\u002f"):
        assert kinds(between.join([BEGIN, *LINES, END]).replace("/", slash).encode()) == {PEM}


ESCAPES = {
    "address": quote,
    "every character": lambda text: "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in text),
    "form": quote_plus,
    "address in an address": lambda text: quote(quote(text)),
    "JSON": lambda text: text.replace(" ", "\\u0020").replace("\n", "\\u000a"),
    "source code": lambda text: text.replace(" ", "\\x20").replace("\n", "\\x0A"),
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("kind", ["", "RSA ", "ENCRYPTED "])
def test_private_key_with_escaped_spaces_is_found(escape, kind):
    """Addresses and forms contain keys so; the first line alone is in programs that read them."""
    key = "\n".join([BEGIN.replace("PRIVATE", f"{kind}PRIVATE"), *LINES, END])

    assert kinds(f"?key={escape(key)}&a=b".encode()) == {PEM}
    assert kinds(f"?key={escape(key.partition('MIIE')[0])}&a=b".encode()) == set()


STATIC = "-----BEGIN OpenVPN " + "Static key V1-----"
V2 = "-----BEGIN OpenVPN " + "tls-crypt-v2 client key-----"
OTHER_KEYS = {
    "OpenVPN": f"{STATIC}\n" + "0f3a9b7c" * 4 + "\n",
    "OpenVPN in JSON": f"{STATIC}\\n" + "0f3a9b7c" * 4,
    "OpenVPN in code": f'"{STATIC}\\n"\n    "' + "0f3a9b7c" * 4 + "\\n",
    "OpenVPN tls-crypt-v2": "\n".join([V2, *LINES]),
    "minisign": "RWRT" + "Y0Iy" + "aB3" * 67 + "aB=",
    "minisign without password": "RWQA" + "AEIy" + "aB3" * 67 + "aB=",
    "signify": "RWRC" + "SwAA" + "aB3" * 43 + "aB=",
    "WireGuard": "[Interface]\nPrivate" + "Key = " + "aB3x9/" * 7 + "Y=",
    "systemd": "[WireGuard]\nPrivate" + "Key=" + "aB3x9/" * 7 + "Y=",
}


@pytest.mark.parametrize("text", OTHER_KEYS.values(), ids=OTHER_KEYS)
def test_private_key_in_other_format_is_found(text):
    """Programs that read these contain their beginning alone; a name may have a reference."""
    assert kinds(text.encode()) == {PEM}
    assert kinds(text[:60].encode()) == set()


def test_putty_key_with_escaped_spaces_is_found():
    """Its first line is not one of PEM."""
    text = "PuTTY-User" + "-Key-File-3: ssh-ed25519\nEncryption: none\n"

    assert kinds(quote(text).encode()) == kinds(quote_plus(text).encode()) == {PEM}


def test_short_private_key_in_decorated_line_is_found():
    """An Ed25519 key has one line."""
    line = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v3VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"

    assert kinds(f'"{BEGIN}\\n"\n"{line}\\n"\n"{END}\\n"'.encode()) == {PEM}


NO_KEYS = {
    "test of the first line": f'if (text.startsWith("{BEGIN}")) {{ return new PKCS8EncodedKeySpec(decode(text)); }}',
    "list of first lines": f'"{BEGIN}",\n"-----BEGIN RSA '
    + 'PRIVATE KEY-----",\n"-----BEGIN EC '
    + 'PRIVATE KEY-----"',
    "replacement": f's.replace("{BEGIN}", "").replace("{END}", "").replaceAll(System.lineSeparator(), "")',
    "identifiers": f'"{BEGIN}"\n' + "X509EncodedKeySpec(PKCS8EncodedKeySpec, RSAPrivateCrtKeySpecBuilder2048, "
    "EncryptedPrivateKeyInfoPBKDF2WithHmacSHA256);",
    "digest": f"{BEGIN} of " + "da39a3ee5e6b4b0d3255bfef95601890afd80709" * 2,
    "words": f"'{BEGIN}'\n" + "PleaseInsertTheContentOfYourOwnPrivateKeyHereAndThenSaveThisFileAgain" * 2,
    "certificate": f"{BEGIN} or -----BEGIN CERTIFICATE-----\n" + "\n".join(LINES[1:] * 2),
    "base64 far behind": f"{BEGIN}" + ". " * 200 + "".join(LINES[1:] * 2),
    "placeholder": f"{BEGIN}\n...\n{END}",
}


@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS)
def test_first_line_of_private_key_alone_is_ignored(text):
    """Documentation and libraries of cryptography contain it."""
    assert kinds(text.encode()) == set()


SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYabcdefgh1234"
SESSION = "IQoJb3JpZ2luX2VjEJr" + "aB3/x" * 60 + "=="
AWS_TEXTS = {
    "STS": '{{"Credentials": {{"SecretAccessKey": "{}", "Expiration": 1}}}}',
    "JSON in JSON": '{{\\"SecretAccessKey\\":\\"{}\\"}}',
    "XML": "<SecretAccessKey>{}</SecretAccessKey>",
    "JavaScript": "secretAccessKey: '{}',",
    "Java": "aws.secretAccessKey={}",
    "old Java": "aws.secretKey = {}",
    "Java call": 'System.setProperty("aws.secretKey", "{}");',
    "C#": '<add key="AWSSecretKey" value="{}"/>',
    "C++": 'std::string awsSecretKey = "{}";',
    "Kubernetes": '- name: AWS_SECRET_ACCESS_KEY\n          value: "{}"',
    "property list": "<key>SecretAccessKey</key>\n\t<string>{}</string>",
    "Python": 'aws_secret_access_key: str = "{}"',
    "INI": "aws_secret_key            = {}",
    "PHP": "'secret_access_key' => '{}'",
}


@pytest.mark.parametrize("text", AWS_TEXTS.values(), ids=AWS_TEXTS)
@pytest.mark.parametrize("frame", [b"%b", b"\0%b\0"], ids=["text", "binary"])
def test_aws_secret_key_is_found_by_its_names(text, frame):
    """AWS writes the name in several ways; vendors' examples, identifiers and digests do not count."""
    assert kinds(frame % text.format(SECRET).encode()) == {"AWS key"}
    for other in (SECRET[:30] + "EXAMPLEKEY", "x" * 40, "aB" * 20, "0f" * 20, SECRET[:39]):
        assert kinds(frame % text.format(other).encode()) == set()


@pytest.mark.parametrize(
    "text",
    ['"SessionToken": "{}"', "aws_session_token = {}", "AWS_SESSION_TOKEN={}", "<SessionToken>{}</SessionToken>",
     "sessionToken: '{}'", "aws.sessionToken={}"],
)  # fmt: skip
@pytest.mark.parametrize("frame", [b"%b", b"\0%b\0"], ids=["text", "binary"])
def test_aws_session_token_is_found_by_its_names(text, frame):
    """The example in the documentation of AWS does not count."""
    assert kinds(frame % text.format(SESSION).encode()) == {"AWS session token"}
    assert kinds(frame % text.format("AQoDYXdzEPT//////////wEXAMPLE" + SESSION).encode()) == set()
    assert kinds(frame % text.format("x" * 120).encode()) == set()


def test_aws_values_next_to_their_names_in_records_are_found():
    """A database has no separators; a program has tables of names."""
    assert kinds(b"\0SecretAccessKey" + SECRET.encode()) == {"AWS key"}
    assert kinds(b"\0SessionToken" + SESSION.encode()) == {"AWS session token"}
    assert kinds(b"\0secretAccess" + b"KeyglueDataCatalogoAuth2GrantTypes3InputFileTypeoAuth") == set()
    assert kinds(b"\0sessionToken" + b"glueDataCatalogoAuth2GrantTypes3InputFileTypeoAuth" * 3) == set()


RANDOM = "aB3xY9qLm2Zc7Rt5Kp8W"
SIGNED = "sig=" + "aB3xY9qLm2Z%2Bc7Rt5Kp8Wa%2FB3xY9qLm2Zc7Rt5Kp8Wa" + "%3D"
UUID = "0f3a9b7c-1234-5678-9abc-0f3a9b7c1234"
TOKENS = {
    **{f"{prefix}{RANDOM}": "GitLab token" for prefix in ("glrt-", "gldt-", "glsoat-", "GR1348" + "941", "glcbt-64_")},
    "glptt-" + "0f3a9" * 8: "GitLab token",
    "glagent-" + "aB3-x" * 10: "GitLab token",
    "xapp-1-" + "A0123ABCD-1234567890123-" + "0f3a9" * 12: "Slack token",
    "xoxe-1-" + "My0xLaB3x" * 16: "Slack token",
    "xoxe." + "xoxp-1-" + "My0xLaB3x" * 18: "Slack token",
    "GOCSPX" + "-aB3-x" * 4 + "aB3_x": "Google client secret",
    "ya29." + "a0AfB_byC" * 12: "Google access token",
    "aB3" + "8Q~" + "aB3x_" * 6 + "~.-Z": "Azure client secret",
    "Endpoint=sb://x.net/;SharedAccess" + "Key=" + "aB3+/xY" * 6 + "a=": "Azure access key",
    "https://x.blob.net/a?sv=2022-11-02&se=2030-01-01&sr=c&sp=r&" + SIGNED: "Azure signature",
    "https://x.blob.net/a?" + SIGNED + "&amp;se=2030-01-01": "Azure signature",
    "https://x.blob.net/a?sv=2022-11-02\\u0026" + SIGNED: "Azure signature",
    "whsec" + "_" + "aB3x" * 8: "Stripe webhook secret",
    "dckr" + "_pat_" + "aB3-x" * 5: "Docker token",
    "hvs" + "." + "aB3x" * 6: "Vault token",
    **{f"do{kind}" + "_v1_" + "0f3a" * 16: "DigitalOcean token" for kind in "opr"},
    "AGE-SECRET-" + "KEY-1" + "QPZRY9X8GF" * 5 + "2TVDW0S3": "age key",
    "dckr" + "_oat_" + "aB3-x" * 5: "Docker token",
    "https://hooks.slack" + ".com/workflows/T0123ABCD/A0123ABCD/" + "1234567890" * 2 + "/aB3xY9": "Slack webhook",
    "ops" + "_eyJ" + "aB3x9" * 50: "1Password token",
    **{"sk" + f"-ant-{kind}-" + "aB3-x" * 18 + "AA": "Anthropic key" for kind in ("api03", "admin01", "oat01")},
    **{prefix + "xFfGF0" * 31: "Atlassian token" for prefix in ("ATATT3", "ATCTT3")},
    "v1" + ".0-" + "0f3a" * 6 + "-" + "0f" * 73: "Cloudflare key",
    "dapi" + "0f3a" * 8 + "-2": "Databricks token",
    "https://discord" + ".com/api/webhooks/123456789012345678/" + "aB3-x_" * 11: "Discord webhook",
    **{f"dp.{kind}." + "aB3x9" * 8: "Doppler token" for kind in ("pt", "sa", "ct", "scim", "audit")},
    "dp" + ".st.prod." + "aB3x9" * 8: "Doppler token",
    "sl" + ".u." + "aB3-x" * 30: "Dropbox token",
    **{prefix + "aB3/x" * 30: "Fly.io token" for prefix in ("fm1a_", "fm1r_", "fm2_")},
    "fo1" + "_" + "aB3-x" * 8 + "aB3": "Fly.io token",
    "glc" + "_eyJ" + "aB3x9" * 12: "Grafana token",
    "glsa" + "_" + "aB3x" * 8 + "_0f3a9b7c": "Grafana token",
    "gsk" + "_" + "aB3x" * 13: "Groq key",
    "HRKU" + "-AA" + "aB3-x" * 11 + "aB3": "Heroku key",
    "hf" + "_" + "aBcDe" * 6 + "aBcD": "Hugging Face token",
    "AKCp" + "aB3" * 23: "JFrog key",
    "cmVmd" + "GtuOj" + "aB3" * 18: "JFrog token",
    "lin" + "_api_" + "aB3x9" * 8: "Linear key",
    "lin" + "_oauth_" + "0f3a" * 16: "Linear token",
    "NRAK" + "-" + "AB3" * 9: "New Relic key",
    "NRII" + "-" + "aB3x" * 8: "New Relic key",
    "0f3a" * 9 + "NRAL": "New Relic key",
    "ntn" + "_12345678901" + "aB3x9" * 7: "Notion token",
    "Authorization: SSWS " + "00" + "aB3-x" * 8: "Okta token",
    "sk" + "-" + "aB3x9" * 4 + "T3Blbk" + "FJ" + "aB3x9" * 4: "OpenAI key",
    "sk" + "-proj-" + "aB3-x" * 14 + "aB3-T3Blbk" + "FJ" + "aB3-x" * 14: "OpenAI key",
    "sk" + "-or-v1-" + "0f3a" * 16: "OpenRouter key",
    **{f"pscale_{kind}_" + "aB3-x.=_" * 4: "PlanetScale token" for kind in ("tkn", "oauth", "pw")},
    "PMAK" + "-" + "0f3a" * 6 + "-" + "0f" * 17: "Postman key",
    **{f"pn{kind}_" + "aB3" * 12: "Prefect key" for kind in "ub"},
    "pul" + "-" + "0f3a" * 10: "Pulumi token",
    "rubygems" + "_" + "0f3a" * 12: "RubyGems key",
    "SG" + "." + "aB3-x" * 4 + "aB" + "." + "aB3-x" * 8 + "aB3": "SendGrid key",
    "sntrys" + "_eyJ" + "aB3x9" * 17: "Sentry token",
    "sntryu" + "_" + "0f3a" * 16: "Sentry token",
    **{f"shp{kind}_" + "0F3a" * 8: "Shopify token" for kind in ("at", "ca", "pa", "ss")},
    "sq0" + "atp-" + "aB3-x" * 4 + "aB": "Square token",
    "sq0" + "csp-" + "aB3-x" * 8 + "aB3": "Square secret",
    "sbp" + "_" + "0f3a" * 10: "Supabase token",
    "sb" + "_secret_" + "aB3-x_" * 5 + "a": "Supabase key",
    "tskey" + "-auth-kaB3xY9CNTRL-" + "aB3x9" * 5: "Tailscale key",
    "https://a.webhook"
    + f".office.com/webhookb2/{UUID}@{UUID}/IncomingWebhook/"
    + "0f3a" * 8
    + f"/{UUID}": "Teams webhook",
    "1234567890" + ":AA" + "aB3-x_" * 5 + "aB3": "Telegram token",
    "aB3xY9qLm2Zc7R" + ".atlas" + "v1." + "aB3-x" * 13: "Terraform token",
}


@pytest.mark.parametrize(("token", "kind"), TOKENS.items(), ids=lambda each: each[:12])
def test_token_of_vendor_is_found(token, kind):
    """A shorter value of the same beginning is none."""
    assert kinds(f"first\n'{token}'\n".encode()) == {kind}
    assert kinds(b"\0" + token.encode() + b"\0") == {kind}
    assert kinds(f"'{token[:24]}'".encode()) == set()


@pytest.mark.parametrize(
    "text",
    [
        "sk_test_" + "aB3" * 8,
        "sig=" + "aB3x" * 20,
        f"f({SIGNED})",
        "hvs.shouldInterceptRequestBody",
        "hvs." + "a1_b" * 9,
        "half_" + "hf_" + "modelName" * 5,
        "MSG.parseInformationAboutIt.andReturnTheWholeMessage",
        "xAKCp" + "aB3" * 40,
    ],
)
def test_form_with_false_positives_is_ignored(text):
    """Documentation publishes keys for tests, and `sig` is a common name."""
    assert kinds(text.encode()) == set()


@pytest.mark.parametrize("anchor", sorted(SHORT))
def test_token_after_short_beginning_is_found_in_utf16(anchor):
    """Of these, the first search needs more than the beginning, also between zero bytes."""
    token = next(token for token in TOKENS if anchor.decode() in token)

    for encoding in ("utf-16-le", "utf-32-be"):
        assert kinds(f"'{token}'".encode(encoding)) == {TOKENS[token]}


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("width", [64, 76, 10_000])
def test_private_key_in_base64_is_found_at_each_alignment(before, width):
    """Secrets of Kubernetes, and variables of CI, have keys so."""
    encoded = base64.b64encode(before.encode() + "\n".join([BEGIN, *LINES]).encode()).decode()
    text = "\n".join(encoded[at : at + width] for at in range(0, len(encoded), width))

    assert kinds(f"key: '{text}'".encode()) == {PEM}


@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS)
def test_first_line_of_private_key_alone_in_base64_is_ignored(text):
    """It is decoded, and judged as any other text."""
    assert kinds(base64.b64encode(text.encode())) == set()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("anchor", secret_forms._ENCODED_ANCHORS)
def test_many_first_lines_in_base64_are_searched_in_linear_time(anchor):
    """A megabyte takes some seconds, and a quarter of it less than one."""
    content = (b"LS0tLS1CRUdJTi" + anchor) * 9_000

    assert kinds(content) == set()


def test_many_first_lines_are_searched_in_linear_time():
    """Nothing is examined beyond the next first line: 10,000 of them would otherwise take minutes."""
    content = (BEGIN.encode() + b"\nA: ") * 10_000

    assert kinds(content + b"\n" + "\n".join([BEGIN, *LINES]).encode()) == {PEM}


KEY_BAG = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02\xa0\x82\x04\xff"
JAVA_KEY = b"\x30\x0e\x06\x0a\x2b\x06\x01\x04\x01\x2a\x02\x11\x01\x01\x05\x00\x04\x82"


@pytest.mark.parametrize("content", [b"\x30\x82\x0a\x01" + KEY_BAG, b"\xfe\xed\xfe\xed" + JAVA_KEY])
def test_key_store_with_private_key_is_found(content):
    """A library contains the object identifiers alone, and a store of certificates neither."""
    assert kinds(content + bytes(100)) == {PEM}
    assert kinds(b"\0" + KEY_BAG[2:13] + b"\0" + JAVA_KEY[4:14] + b"\0") == set()


@pytest.mark.parametrize("text", ["{}_authToken={}", "{}_authToken = {}", '{}_authToken="{}"'])
def test_npm_token_is_found_however_it_is_assigned(text):
    """A variable is no token."""
    assert kinds(text.format("//a.example/:", "aB3x" * 6).encode()) == {"npm token"}
    assert kinds(text.format("//a.example/:", "${NPM_TOKEN}").encode()) == set()


CURVES = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1())
KEYS: dict[str, Any] = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "Ed448": ed448.Ed448PrivateKey.generate(),
    **{curve.name: ec.generate_private_key(curve) for curve in CURVES},
}
PKCS8, TRADITIONAL = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL


def key_bytes(name, encoding=serialization.Encoding.DER, form=PKCS8):
    return KEYS[name].private_bytes(encoding, form, serialization.NoEncryption())


@pytest.mark.parametrize("name", KEYS)
def test_binary_private_key_is_found(name):
    """PKCS #8, PKCS #1 and SEC 1 name their algorithm or curve, and begin alike."""
    for form in (PKCS8,) if name.startswith("Ed") else (PKCS8, TRADITIONAL):
        for frame in (b"%b", b"\x7fELF\0%b\0\1"):
            assert kinds(frame % key_bytes(name, form=form)) == {PEM}


@pytest.mark.parametrize("name", KEYS)
def test_header_of_binary_private_key_alone_is_ignored(name):
    """Libraries of cryptography contain headers, test values and public keys."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo

    assert kinds(KEYS[name].public_key().public_bytes(serialization.Encoding.DER, form)) == set()
    for anchor in secret_forms._DER_ANCHORS:
        for content in (bytes(2000), b"text that is no key, in a table of constants. " * 50):
            assert kinds(anchor + content) == set()


def test_binary_private_key_in_program_is_ignored():
    """`openssl` contains keys with which it measures its speed."""
    content = b"\x7fELF" + bytes(100) + key_bytes("RSA")
    found = read_file(io.BytesIO(content), len(content), ContentStore(io.BytesIO()), secrets=True)

    assert found.secrets == ()


@pytest.mark.parametrize("name", ["RSA", "secp256r1"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.encodebytes], ids=["one line", "lines"])
@pytest.mark.parametrize("before", ["", "x", "xy"])
def test_private_key_in_base64_of_base64_is_found(name, encode, before):
    """A Secret of Kubernetes may contain the value of another one."""
    key = before.encode() + key_bytes(name, serialization.Encoding.PEM, TRADITIONAL)
    twice = encode(before.encode() + encode(key))

    assert kinds(twice) == {PEM}
    assert kinds(encode(encode(key[:60]))) == set()


ALL_KEYS = KEYS | {
    "RSA of 1024 bits": rsa.generate_private_key(65537, 1024),
    "DSA": dsa.generate_private_key(1024),
    "X25519": x25519.X25519PrivateKey.generate(),
}
NO_OPENSSH = ("Ed448", "X25519", "secp256k1")
FORMATS = {
    "PKCS 8": (PKCS8, serialization.NoEncryption()),
    "PKCS 1 or SEC 1": (TRADITIONAL, serialization.NoEncryption()),
    "OpenSSH": (serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()),
    "encrypted PKCS 8": (PKCS8, serialization.BestAvailableEncryption(b"password")),
}


def list_bodies():
    """Return the lines of each key in each format that it has, without the first and the last line."""
    bodies = list[Any]()
    for name, key in ALL_KEYS.items():
        for form, (kind, encryption) in FORMATS.items():
            if (name == "DSA" and form != "PKCS 1 or SEC 1") or (name in NO_OPENSSH and form == "OpenSSH"):
                continue
            if form == "PKCS 1 or SEC 1" and name.startswith(("Ed", "X")):
                continue
            text = key.private_bytes(serialization.Encoding.PEM, kind, encryption).decode()
            bodies.append(pytest.param(text.splitlines()[1:-1], id=f"{form} {name}"))
    return bodies


@pytest.mark.parametrize("lines", list_bodies())
def test_private_key_without_first_line_is_found(lines):
    """Libraries accept the base64 alone, in one line or several, as it is or decorated."""
    for between in ("\n", "\r\n", "", "\\n", '\\n"\n"', "%0A", "\\u000a", "\n# "):
        assert kinds(f"key: '{between.join(lines)}'".encode()) == {PEM}
    assert kinds(quote("\n".join(lines)).encode()) == {PEM}


@pytest.mark.parametrize("lines", list_bodies())
def test_private_key_with_first_line_has_one_place(lines):
    """Comments and reviews accept a finding by its line."""
    text = "\n".join([BEGIN, *lines, END])

    assert list(find_secret_patterns(text.encode())) == [(1, PEM)]


@pytest.mark.parametrize("lines", list_bodies())
def test_beginning_of_private_key_alone_is_ignored(lines):
    """Programs and documentation contain it, with nothing or zeros after it."""
    for text in (lines[0][:40], lines[0][:40] + "...", lines[0][:28] + "A" * 400):
        assert kinds(f"'{text}'".encode()) == set()


@pytest.mark.parametrize("name", ALL_KEYS)
def test_public_key_in_base64_is_ignored(name):
    """It begins with the same algorithm."""
    public = ALL_KEYS[name].public_key()
    spki = serialization.PublicFormat.SubjectPublicKeyInfo

    assert kinds(public.public_bytes(serialization.Encoding.PEM, spki)) == set()


def test_random_base64_is_ignored():
    """Certificates, digests and pictures are such."""
    assert kinds(base64.encodebytes(random.Random(0).randbytes(1024 * 1024))) == set()
