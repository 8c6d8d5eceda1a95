"""Tests of passwords that detect-secrets misses as they are written, with detect-secrets itself."""

import base64

import pytest

from supply_chain.adapters.tools.secret_readings import read_otherwise
from supply_chain.adapters.tools.secrets import SecretSearch
from tests.support.python_tools import DETECT

FAKE = "made-up-" + "f4k3-0123"
"""Invalid password, assembled here so that this file itself contains no match."""


def encoded(text):
    return base64.b64encode(text.encode()).decode()


SIZE = 256 * 1024
BASIC, WORD = "Basic Auth Credentials", "Secret Keyword"
FORMS = {
    ".env": ("A=1\nURL=redis://:{}@cache:6379/0\n", 2, BASIC),
    "a.conf": ("url = postgres://admin:{}$,!@db/x\n", 1, BASIC),
    "b.yaml": ("env:\n  - name: DB_PASSWORD\n    value: {}\n", 3, WORD),
    "reversed.yaml": ("env:\n  - value: {}\n    name: DB_PASSWORD\n", 2, WORD),
    "reversed.json": ('[\n{{\n  "value": "{}",\n  "name": "DB_PASSWORD"}}]\n', 3, WORD),
    "short.json": ('[\n{{"value":"{}","key":"DB_PASSWORD"}}]\n', 2, WORD),
    "reversed.xml": ('<a>\n<add value="{}" key="DbPassword"/>\n</a>\n', 2, WORD),
    "c.json": ('[\n{{"name": "DB_PASSWORD",\n "value": "{}"}}]\n', 3, WORD),
    "d.xml": ('<a>\n<add key="DbPassword" value="{}"/>\n</a>\n', 2, WORD),
    "element.xml": ("<db>\n<user>sa</user>\n<db.Password>\n  {}\n</db.Password>\n</db>\n", 4, WORD),
    "account.sql": ("-- a\nCREATE USER x IDENTIFIED BY '{}';\n", 2, WORD),
    "lines.sql": ("-- a\nCREATE USER x IDENTIFIED BY\n  '{}';\n\n", 3, WORD),
    "role.sql": ("alter role x with login\tpassword '{}';\n", 1, WORD),
    ".netrc": ("machine a.example\n  login bob\n  password {}\n", 3, WORD),
    ".pgpass": ("# mine\ndb.example:5432:orders:bob:{}\n", 2, WORD),
    "pgpass.conf": ("*:*:*:bob:{}\r\n", 1, WORD),
    ".pypirc": ("[pypi]\nusername = bob\npassword = {}\n", 3, WORD),
    "config.json": ('{{"auths": {{"a.example": {{\n"auth": "{user}"}}}}}}\n', 2, WORD),
    ".npmrc": ("a=b\n_auth={user}\n", 2, WORD),
    "data.yaml": ("kind: ConfigMap\n---\napiVersion: v1\nkind: Secret\ndata:\n  dsn: {data}\n", 6, WORD),
    "string.yaml": ("stringData:\n  dsn: {}\nkind: Secret\n", 2, WORD),
    "fetch.sh": ("set -e\ncurl -s \\\n  -u bob:{} https://a.example\n", 3, WORD),
    "fetch.py": ('run(["curl", "--user", "bob:{}", url])\n', 1, WORD),
    "login.sh": ("docker login -u bob -p {} a.example\n", 1, WORD),
    "start": ("#!/bin/sh\nhelm registry login a.example --password={}\n", 2, WORD),
    "remote.sh": ("sshpass -p '{}' ssh -p 2222 a.example\n", 1, WORD),
    "header.sh": ("\ncurl -H 'Authorization: Bearer {token}' a.example\n", 2, WORD),
    "header.json": ('{{\n"Authorization": "Bearer {token}"}}\n', 2, WORD),
    "secret.json": ('{{\n"kind": "Secret",\n"data": {{\n  "dsn": "{data}"\n}}\n}}\n', 4, WORD),
}
"""File → text, the line of its secret, and the kind."""


def written(text, value):
    return text.format(
        value,
        user=encoded(f"bob:{value}"),
        data=encoded(value),
        token=value if value[0] in "$<{" else f"{value}-{value}",
    )


def test_password_is_found_on_its_line():
    """All files are searched at once."""
    files = {name: written(text, FAKE).encode() for name, (text, _, _) in FORMS.items()}

    assert SecretSearch(DETECT).search_files(files) == tuple(
        sorted(f"{name}:{line}: {kind}" for name, (_, line, kind) in FORMS.items())
    )


@pytest.mark.parametrize(
    "value", ["${PASSWORD}", "changeme", "<password>", "{{ .Values.password }}", "password", "xxxx"]
)
@pytest.mark.parametrize("text", [each for each, _, _ in FORMS.values()], ids=FORMS)
def test_placeholder_is_left_as_it_is(text, value):
    """Examples and templates contain no secret."""
    assert read_otherwise(written(text, value)) == ""


@pytest.mark.parametrize(
    "text",
    [
        "", "name: a\nvalues: b\n", "- value: b\n- name: DB_PASSWORD\n", "a:\n  value: b\nkey: password\n",
        "- name: DB_PASSWORD\n  valueFrom:\n    x: y\n", "the default password is long\n",
        "app.c:1234:5:error:bad\n", "nobody:*:65534:65534:nobody:/:/bin\n", "# host:5432:database:user:secret1\n",
        "a.example:5432:orders:bob:\n", "12:30:45:10:started\n",
        "machine for login and password\n", 'author = "MIIEMIIE"\n', '"auth": "basic"\n', f"_auth={encoded('one')}\n",
        "kind: SealedSecret\ndata:\n  a: QUJDRA==\n", "kind: Secret\nmetadata:\n  name: a\n",
        "kind: Secret\ndata:\n  a: |\n  b: /w==\n", "kind: Secret\ndata:\nmetadata:\n  a: QUJDRA==\n", "http://a:80/@b\n",
        "curl -u bob https://a:b\n", "curl a; tool -u bob:secret1\n", "mkdir -p a/b\n", "docker run -p 80:80 a\n",
        "sshpass -e ssh -p 2222 a\n", "docker login -u bob --password-stdin\n", "login -p page\n",
        "Authorization: Bearer mF_9.B5f\n", "Authorization: Bearer the_token_of_the_request\n",
    ],
)  # fmt: skip
def test_text_without_assigned_secret_has_no_other_reading(text):
    """Prose, references and settings with similar words stay as they are."""
    assert read_otherwise(text) == ""


def test_other_reading_has_same_number_of_lines():
    """A finding would otherwise have another place."""
    for text, _, _ in FORMS.values():
        before = written(text, FAKE + "\n" if "{data}" in text else FAKE)
        assert read_otherwise(before).count("\n") in (before.count("\n"), 0)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "part",
    [
        "name: a" + " " * 100,
        "value: a" + " " * 100,
        "value:'a",
        "machine ",
        "default login ",
        "://:",
        "kind: Secret\ndata:\n a: " + " " * 100,
        "auth=A",
    ],
)
def test_other_reading_takes_linear_time(part):
    """Anybody may write a file of 5 MiB; a quarter of a mebibyte takes half a second at most."""
    read_otherwise(part * (SIZE // len(part)))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "unit", ["curl -u ", "docker login -p $a ", "sshpass -p $a ", "Authorization: ", " -u", "docker "]
)
def test_megabyte_of_commands_is_read_in_linear_time(unit):
    """A quarter of one takes half a second at most."""
    assert read_otherwise(unit * (SIZE // len(unit))) == ""
