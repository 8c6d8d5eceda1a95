"""Another reading of a text, in which detect-secrets recognises passwords that it misses as they are written.

The reading has as many lines as the text, so that findings keep their places.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

_QUOTE = r"[\"']?"
PAIR = re.compile(
    rf"(?<![\w.-])(?:name|key){_QUOTE}\s*[:=]\s*{_QUOTE}(?P<name>[\w.-]{{1,80}}){_QUOTE}[\s,]+"
    rf"{_QUOTE}value{_QUOTE}\s*[:=][ \t]*(?P<value>\S{{0,80}})",
    re.IGNORECASE,
)
"""A name and its value as separate fields, in YAML, JSON or XML."""
REVERSED = re.compile(
    rf"(?<![\w.-])value{_QUOTE}\s*[:=][ \t]*(?P<value>\"[^\"\n]{{1,80}}\"|'[^'\n]{{1,80}}'|[^\s\"',]{{1,80}})[\s,]+"
    rf"{_QUOTE}(?P<key>name|key){_QUOTE}\s*[:=]\s*{_QUOTE}(?P<name>[\w.-]{{1,80}})",
    re.IGNORECASE,
)
"""A value before its name."""
ADDRESS = re.compile(r"://[^\s:/@\"'<>]{0,200}:([^\s/@\"']{1,200})@")
"""An address with a password, also without a user or with characters that should be escaped."""
MACHINE = re.compile(r"(\b(?:machine\s+\S+|default)\s+(?:(?:login|account)\s+\S+\s+){1,3}password)(\s+)(?=(\S{1,80}))")
"""What is before a password in `.netrc`."""
PGPASS = re.compile(
    r"(?m)^(?P<server>(?:[^\s:\\#]|\\.){1,255}:(?:\d{4,5}|\*):(?!\d+:)(?:[^\s:\\]|\\.){1,63}:(?:[^\s:\\]|\\.){1,63}):"
    r"(?P<value>[^\s\"]{1,200})[ \t\r]*$"
)
"""Host, port, database, user and password in `.pgpass`. Messages of compilers have numbers in place of a database."""
BASIC = re.compile(rf"(\b_?auth)({_QUOTE}\s*[:=]\s*{_QUOTE})([A-Za-z0-9+/]{{8,}}={{0,2}})(?![A-Za-z0-9+/=])")
"""User and password in base64, in the settings of Docker and npm."""
BEARER = re.compile(
    rf"\bAuthorization{_QUOTE}\s{{0,9}}[:=,]\s{{0,9}}{_QUOTE}Bearer[ \t]{{1,9}}(?P<value>[\w.~+/-]{{20,2000}}={{0,2}})",
    re.IGNORECASE,
)
"""A token in the header of a request (RFC 6750, 2.1)."""
ELEMENT = re.compile(
    r"<(?P<name>[\w.:-]{0,60}(?:password|passwd|passphrase))>(?P<before>\s{0,80})(?P<value>[^<>\s\"]{1,200})(?=\s{0,80}</)",
    re.IGNORECASE,
)
"""A password in an element of XML."""
NO_PASSWORD = re.compile(r"(?:true|false|yes|no|\d+|\?)$|@", re.IGNORECASE)
"""A setting or a parameter in place of a password."""
ACCOUNT = re.compile(
    r"(?P<before>\bIDENTIFIED\s{1,9}(?:WITH\s{1,9}\w{1,40}\s{1,9})?BY"
    r"|\b(?:CREATE|ALTER)\s{1,9}(?:ROLE|USER|LOGIN)\b[^;'\n]{1,200}?\bPASSWORD(?:\s{0,9}=)?)"
    r"(?P<gap>\s{1,9})'(?P<value>[^'\"\n]{1,200})'",
    re.IGNORECASE,
)
"""A password of an account in SQL."""
OPTION = re.compile(
    r"(?<=[\s\"',])(?P<name>-[uUp]|--(?:(?:proxy-)?user|password)(?=[\s=\"',]))[ \t=\"',]{0,8}"
    r"(?P<value>[^\s\"'`;|&,=-][^\s\"'`;|&<>,]{0,199})"
)
"""An option of a command, which may be followed by a password."""
COMMAND_WINDOW = 400
"""Characters before an option in which its command has to be."""
BOUNDARY = re.compile(r"[\n;|&]")
CONTINUED = re.compile(r"\\\r?\n")
COMMANDS = ("curl", "login", "sshpass")
CURL = re.compile(r"\bcurl\b")
LOGIN = re.compile(r"\b(?:docker|podman|buildah|nerdctl|skopeo|crane|oras|helm)\b.{0,200}\blogin\b")
SSHPASS = re.compile(r"\bsshpass[\s\"',]+(?:-[vhP][\s\"',]+)?$")
"""Commands, in a text before an option, to which the option gives a password."""
OBJECT = re.compile(r"(?m)^(?=---)")
SECRET = re.compile(r"(?m)^[ \t]*(?:- )?[\"']?kind[\"']?:[ \t]*[\"']?Secret[\"']?,?[ \t\r]*$")
"""Kind of a Kubernetes object whose values are all secret."""
DATA = re.compile(r"[\"']?(data|stringData)[\"']?:\s*\{?\s*")
PLACEHOLDER = re.compile(
    r"[\"']?(?:[$<{\[*]|#\{|%(?:[svqd]\b|[({]|\w+%)|change[-_ ]?me|replace|example|your|todo|dummy|placeholder|redacted"
    r"|none\b|null\b|x{3}|\.{3}|(?:my[-_]?|the[-_]?)?(?:password|passwd|passw?|pw|pwd|secret|token)\b)",
    re.IGNORECASE,
)
"""Beginning of a value in place of a secret."""


def read_otherwise(text: str) -> str:
    """Return the text with secrets in these forms as detect-secrets expects them; empty if there are none.

    Placeholders stay as they are.
    """
    changed = ADDRESS.sub(_add_user, text)
    changed = PAIR.sub(_join_pair, changed)
    changed = REVERSED.sub(_join_reversed, changed)
    changed = MACHINE.sub(lambda match: match[0] if _is_placeholder(match[3]) else f"{match[1]}:{match[2]}", changed)
    changed = PGPASS.sub(_name_password, changed)
    changed = BASIC.sub(_decode_basic, changed)
    changed = BEARER.sub(_name_token, changed)
    changed = ELEMENT.sub(_name_element, changed)
    changed = ACCOUNT.sub(_name_account, changed)
    changed = OPTION.sub(_name_argument, changed)
    changed = "".join(_name_values(part) if SECRET.search(part) else part for part in OBJECT.split(changed))
    return changed if changed != text else ""


def _is_placeholder(value: str) -> bool:
    return bool(PLACEHOLDER.match(value))


def _add_user(match: re.Match[str]) -> str:
    return match[0] if _is_placeholder(match[1]) else f"://user:{re.sub(r'[^A-Za-z0-9_.~%-]', '-', match[1])}@"


def _join_pair(match: re.Match[str]) -> str:
    if _is_placeholder(match["value"]):
        return match[0]
    return "\n" * match[0].count("\n") + f"{match['name']}: {match['value']}"


def _join_reversed(match: re.Match[str]) -> str:
    """Return a name and the value before it; on different lines, both belong together if they are below each other."""
    begin, key = match.start(), match.start("key")
    quoted = match.string[begin - 1 : begin] in ("'", '"')
    before, between = match.string[:begin].rpartition("\n")[2], match.string[begin:key].rpartition("\n")
    if between[1] and len(before) - quoted != len(between[2].rstrip("\"'")):
        return match[0]
    if _is_placeholder(match["value"]):
        return match[0]
    return f"{match['name']}: {match['value']}" + "\n" * match[0].count("\n")


def _name_password(match: re.Match[str]) -> str:
    return match[0] if _is_placeholder(match["value"]) else f'{match["server"]} password: "{match["value"]}"'


def _decode_basic(match: re.Match[str]) -> str:
    user, _, password = _decode(match[3]).partition(":")
    return (
        f"{match[1]}_password{match[2]}{password}" if user and password and not _is_placeholder(password) else match[0]
    )


def _name_token(match: re.Match[str]) -> str:
    value = match["value"]
    random = re.search(r"\d", value) and re.search(r"[A-Za-z]", value) and not _is_placeholder(value)
    return "\n" * match[0].count("\n") + f'token_password: "{value}"' if random else match[0]


def _name_element(match: re.Match[str]) -> str:
    value = match["value"]
    return match[0] if NO_PASSWORD.match(value) or _is_placeholder(value) else f'{match["before"]}password: "{value}"'


def _name_account(match: re.Match[str]) -> str:
    before, value = f"{match['before']}{match['gap']}", match["value"]
    return match[0] if NO_PASSWORD.match(value) or _is_placeholder(value) else f'{before}password: "{value}"'


def _name_argument(match: re.Match[str]) -> str:
    """Return an option of curl, a login or sshpass with its password named so; any other as it is."""
    name, value = match["name"], match["value"]
    text = match.string[max(0, match.start() - COMMAND_WINDOW) : match.start()]
    if not any(word in text for word in COMMANDS):
        return match[0]
    before = BOUNDARY.split(CONTINUED.sub(" ", text))[-1]
    if name in ("-p", "--password"):
        password = value if LOGIN.search(before) or (name == "-p" and SSHPASS.search(before)) else ""
    else:
        password = value.partition(":")[2] if CURL.search(before) else ""
    return f'{name} password: "{password}"' if password and not _is_placeholder(password) else match[0]


def _decode(value: str) -> str:
    """Return the text that a value is in base64, in one line; empty if it is none."""
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    return re.sub(r"[\"'\s]+", " ", text.strip()) if text.strip().isprintable() or "\n" in text else ""


def _name_values(text: str) -> str:
    """Return a Kubernetes object with every value of its `data`, decoded, and `stringData` as a password."""
    return "".join(_list_values(text.splitlines(keepends=True)))


def _list_values(lines: list[str]) -> Iterator[str]:
    block, indent = "", 0
    for line in lines:
        content = line.strip()
        depth = len(line) - len(line.lstrip())
        if block and content and depth <= indent:
            block = ""
        if match := DATA.fullmatch(content.removeprefix("- ")):
            block, indent = match[1], depth
        value = content.partition(":")[2].strip(" \t,\"'").replace('"', " ") if block else ""
        value = _decode(value) if block == "data" else value
        secret = value and value[0] not in "|>&*!" and not _is_placeholder(value)
        yield f'password: "{value}"{line[len(line.rstrip()) :]}' if secret else line
