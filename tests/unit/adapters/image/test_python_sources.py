"""The selection of an image's Python files that nothing else reads."""

import base64
import hashlib
import sys

import pytest

from supply_chain.adapters.image import package_records, python_sources
from supply_chain.adapters.image.configuration import Start
from supply_chain.adapters.image.file_content import HEAD
from supply_chain.adapters.image.package_records import (
    NOTHING_COMPARED,
    SystemFiles,
    parse_record,
    read_installed_files,
)
from supply_chain.adapters.image.python_sources import (
    LARGEST_TEXT,
    PythonSources,
    StartedPython,
    find_python_sources,
    find_started,
    has_unread_command,
    is_python_text,
    select_startup_lines,
)
from supply_chain.model.declaration import ContainerCommand, Runtime
from tests.support.filesystem import lay_files

CODE = b"eval(input())\n"


def find(contents, links=None, checked=(), checkpoint=lambda: None, config=None, system=NOTHING_COMPARED):
    """Return the sources of an image of these files and links; the check `source` reads the contents `checked`."""
    keeper, files = lay_files(contents, links)
    digests = {hashlib.sha256(each).hexdigest() for each in checked}
    scripts = find_started(files, keeper, Start.of({"config": config}), checkpoint).scripts
    installed = read_installed_files(files, keeper, system=system)
    return find_python_sources(files, keeper, installed, digests.__contains__, checkpoint, scripts)


TEXT = b"import os\nos.system(input())\n"


@pytest.mark.parametrize("path", ["app/server", "app/v1.2/server", "app/.start", "etc/cron.d/job", "app/boot.dat"])
def test_text_is_found_if_it_is_python(path):
    """Python runs any file: `python3 /app/server`, and `runpy` too."""
    assert find({path: TEXT, "app/README.md": b"Run `import os`.\n"}) == PythonSources({f"/{path}": TEXT})


TEXTS = {
    "import": (TEXT, True),
    "import in a function": (b"def run():\n    from subprocess import call\n    call('\\d \\'')\n", True),
    "byte order mark": (b"\xef\xbb\xbfimport os\n", True),
    "largest": (b"import os\n".ljust(LARGEST_TEXT, b"#"), True),
    "invalid escape": (b"import re\nre.match('\\d+ \\\\', x)\n", True),
    "larger": (b"import os\n".ljust(LARGEST_TEXT + 1, b"#"), False),
    "assignments": (b"import_path = 1\nNAME='x'\n", False),
    "import in a comment": (b"# import os\nNAME='x'\n", False),
    "prose": (b"Please import the key first.\n", False),
    "shell": (b'import() { echo "$1"; }\nimport x\n', False),
    "JavaScript": (b'import fs from "fs"\n', False),
    "Go": (b'package main\n\nimport "fmt"\n', False),
    "other bytes in a comment": (b"import os # \xe9\n", True),
    "other bytes in a name": (b"import os\n\xe9 = 1\n", False),
    "encoding with a line end": (b"# -*- coding: utf-8-unix -*-\nimport os\n", True),
    "encoding with something added": (b"# coding: ISO_8859_1-mac\nimport os # \xe9\n", True),
    "two encodings": (b"# coding: utf-7\n# coding: latin-1\n+AGkAbQBwAG8AcgB0- os\n", True),
    "its own encoding": (b"# coding: latin-1\nimport os # \xe9\n", True),
    "UTF-7": (b"#coding=utf-7\n+AGkAbQBwAG8AcgB0- os\n", True),
    "slow encoding": (b"\n# -*- coding: punycode -*-\n", True),
    "unknown encoding": (b"# coding: no-such\nimport os\n", False),
    "encoding of bytes": (b"# coding: zlib\nimport os\n", False),
    "slow encoding by another name": (b"# coding: Punycode-\n", True),
    "encoding in a line that is none": (b"# coding: latin-1 \xe9\nimport os\n", True),
    "encoding in the second line": (b"# \xe9\r# coding: latin-1\rimport os\r", True),
    "encoding in the third line": (b"# a\n# b\n# coding: utf-7\n+AGkAbQBwAG8AcgB0- os\n", False),
    "escape of another language": (b'import Foundation\nprint("\\u{1F600}")\n', False),
    "R": (b"x <- eval(parse(text = y))\n", False),
    "zero byte": (b"import os\n\0", True),
    "zero byte in a comment": (b"import os#\0)\n", True),
    "UTF-16 without a statement": ("import os\n".encode("utf-16-le"), False),
    "encoding unlike ASCII": (b"# coding: cp037\n" + "import os\n".encode("cp037"), True),
    "encoding that reads its own statement otherwise": (b"# coding: utf-7 +AAo-import os\n", True),
    "nested": (b"import os\n" + b"(" * 100_000, False),
    "operators": (b"import os\n" + b"-" * 100_000 + b"1", False),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_python_if_it_parses_and_imports(name):
    """Few other texts do both."""
    content, expected = TEXTS[name]

    assert is_python_text(content) is expected


CONFIGS = {
    "entry point": {"Entrypoint": ["/usr/bin/python3", "/app/server.txt"]},
    "command": {"Entrypoint": ["tini", "--", "python3.12", "-u"], "Cmd": ["-X", "dev", "/app/server.txt", "/app/data"]},
    "working directory": {"Entrypoint": ["python"], "Cmd": ["server.txt"], "WorkingDir": "/app"},
    "shell": {"Cmd": ["/bin/sh", "-c", "cd / && exec python3 -Bu '/app/server.txt' --port=1; true"]},
    "open quote": {"Cmd": ["/bin/sh", "-c", "python3 /app/server.txt '"]},
    "health check": {"Healthcheck": {"Test": ["CMD", "python3", "/app/server.txt"]}},
    "link to the script": {"Cmd": ["python3", "/start"]},
    "link to the interpreter": {"Cmd": ["/app/run", "/app/server.txt"]},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_script_that_the_configuration_starts_is_found(name):
    """Its name and content do not matter."""
    files = {"app/server.txt": b"not Python", "app/data": b"key: [1", "usr/bin/python3.12": b"\x7fELF"}

    found = find(files, {"app/run": "/usr/bin/python3.12", "start": "app/server.txt"}, config=CONFIGS[name])

    assert found == PythonSources({"/app/server.txt": b"not Python"})


@pytest.mark.parametrize(
    "command",
    [
        ["python3", "--", "/app/server.txt"],
        ["python3", "-m", "cProfile", "-s", "time", "/app/server.txt"],
        ["python3", "-m", "server", "server.txt"],
        ["env", "PYTHONSTARTUP=/app/server.txt", "python3", "-im", "code"],
        ["sh", "-c", "python3 < /app/server.txt"],
        ["sh", "-c", "cat /app/server.txt | python3 -"],
        ["sh", "-c", "cd / && cd app && exec python3 -- ./server.txt"],
        ["sh", "-c", "cd /opt && cd ../app && python3 -- server.txt"],
        ["sh", "-c", "cd -P -- /app; /app/run -Im a.b ./server.txt"],
        ["sh", "-c", "(cd /opt); cd ../app; python3 < server.txt"],
    ],
)
def test_python_in_a_command_with_an_interpreter_is_found(command):
    """Whether an argument is a script depends on the interpreter, on modules and on the shell."""
    files = {"app/server.txt": CODE, "app/data": b"key: [1", "opt/x": b"", "usr/bin/python3.12": b"\x7fELF"}
    config = {"Cmd": [*command, "/app/data"], "WorkingDir": "/app" if "server" in command else "/srv"}

    found = find(files, {"app/run": "/usr/bin/python3.12"}, config=config)

    assert found == PythonSources({"/app/server.txt": CODE})


def test_python_that_calls_through_an_attribute_is_found():
    """It needs neither a call nor an import."""
    code = b"copyright.__class__.__getitem__ = exec\ncopyright['1 + 1']\n"

    found = find({"app/server.txt": code}, config={"Cmd": ["python3", "--", "/app/server.txt"]})

    assert found == PythonSources({"/app/server.txt": code})


@pytest.mark.parametrize(
    "config",
    [
        None,
        {"Entrypoint": None, "Cmd": None, "Healthcheck": None},
        {"Cmd": ["node", "/app/server.txt"]},
        {"Cmd": ["python3", "-c", "1", "/app/data"]},
        {
            "Cmd": [
                "python3",
                "-m",
                "server",
                "--config",
                "/app/settings.json",
                "/app/settings.yaml",
                "/app/settings.ini",
            ]
        },
        {"Cmd": ["python3", "/app"]},
        {"Cmd": ["python3", "/gone"]},
        {"Cmd": ["python3", "/opt/site-packages/listed.txt"]},
        {"Cmd": ["python3", "/app/server.pyc"]},
    ],
)
def test_other_commands_start_no_python_script(config):
    """Packages and compiled Python are judged elsewhere."""
    files = {
        "app/server.txt": CODE,
        "app/data": b"key: [1",
        "app/settings.json": b'{"host": "0.0.0.0", "tls": false, "at": ["/tmp/x"]}\n',
        "app/settings.yaml": b'host: "0.0.0.0"\npassword: "/tmp/x"\n',
        "app/settings.ini": b"[server]\nhost = a.b\nport = 1\n",
        "app/server.pyc": b"\x6f\r\r\n",
        "opt/site-packages/listed.txt": CODE + b"\n",
        "opt/site-packages/a.dist-info/RECORD": listed("listed.txt", CODE + b"\n"),
    }

    assert find(files, config=config) == PythonSources()


@pytest.mark.parametrize(
    "config",
    [
        {"Entrypoint": ["/app/own-name", "-u"], "Cmd": ["/app/run.dat"]},
        {"Cmd": ["/bin/sh", "-c", "exec /app/own-name '/app/run.dat'"]},
        {"Entrypoint": ["own-name"], "Cmd": ["run.dat", "/app/other.dat", "/app"], "WorkingDir": "/app"},
    ],
)  # fmt: skip
def test_python_passed_to_any_program_is_found(config):
    """An interpreter may have another name."""
    files = {"app/run.dat": TEXT, "app/other.dat": CODE, "app/own-name": b"\x7fELF"}

    assert find(files, config=config) == PythonSources({"/app/run.dat": TEXT})


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"Entrypoint": ["python3", "-Bc", "eval('1 2')"], "Cmd": ["x"]}, ["eval('1 2')"]),
        ({"Cmd": ["/bin/sh", "-c", "cd / && exec /usr/bin/python3 -c 'eval(x)' a"]}, ["eval(x)"]),
        (
            {"Cmd": ["python", "-c", "a = 1"], "Healthcheck": {"Test": ["CMD", "pypy3", "-c", "b = 2"]}},
            ["a = 1", "b = 2"],
        ),
        ({"Cmd": ["env", "-i", "python3.12", "-ceval(x)"]}, ["eval(x)"]),
        ({"Cmd": ["/app/run", "-c", "eval(x)"]}, ["eval(x)"]),
        ({"Cmd": ["python3", "-c"]}, []),
        ({"Cmd": ["python3", "-m", "timeit", "-s", "import os", "os.kill(1, 9)"]}, ["import os"]),
        ({"Env": ["PROGRAM=import os", "COMMAND=python3 -c 'a = 1'", "PATH=/bin"]}, ["import os", "a = 1"]),
        ({"Cmd": ["node", "-c", "eval(x)"]}, []),
        (None, []),
    ],
)
def test_code_in_the_configuration_is_found(config, code):
    """No file has it."""
    keeper, files = lay_files({"usr/bin/python3": b"\x7fELF"}, {"app/run": "/usr/bin/python3"})

    started = find_started(files, keeper, Start.of({"config": config}), lambda: None)
    assert list(started.code) == code
    assert list(started.list_code().values()) == [each.encode() for each in started.code]


@pytest.mark.parametrize(("variable", "content"), [("PYTHONSTARTUP=boot.dat", CODE), ("X=/app/boot.dat", TEXT)])
def test_python_that_a_variable_names_is_found(variable, content):
    """An interactive interpreter runs one; programs of the application may run the others."""
    found = find({"app/boot.dat": content}, config={"Env": [variable, "HOME=/app"], "WorkingDir": "/app"})

    assert found == PythonSources({"/app/boot.dat": content})


def test_python_that_the_declared_runtime_starts_is_found():
    """It can start other programs than the image's configuration, in its environments."""
    keeper, files = lay_files({"app/boot.dat": CODE, "usr/bin/python3": b"\x7fELF"})
    commands = (ContainerCommand(command=("/usr/bin/python3",), args=("-c", "eval(x)")),)
    runtime = Runtime(environment={"PYTHONSTARTUP": "/app/boot.dat", "CODE": "import os"}, commands=commands)
    config = {"config": {"Env": ["PYTHONSTARTUP=/app/other"]}}

    started = find_started(files, keeper, Start.of(config, runtime), lambda: None)

    assert started == StartedPython(frozenset({"/app/boot.dat"}), ("eval(x)", "import os"))


@pytest.mark.parametrize(("entrypoint", "args"), [(["python3"], ["-c", "eval(x)"]), (["python3", "-c"], ["eval(x)"])])
def test_declared_arguments_follow_the_entry_point_of_the_image(entrypoint, args):
    """As in Kubernetes."""
    keeper, files = lay_files({})
    runtime = Runtime(commands=(ContainerCommand(args=tuple(args)),))
    config = {"config": {"Entrypoint": entrypoint, "Cmd": ["-V"]}}

    assert "eval(x)" in find_started(files, keeper, Start.of(config, runtime), lambda: None).code


def test_started_python_is_looked_for_within_a_budget_in_each_directory():
    """A text may name thousands; equal ones count once."""
    keeper, files = lay_files({})
    calls = []
    text = " ".join([*(f"cd /{number};" for number in range(60)), *["cd /same;"] * 40, "x"])

    find_started(files, keeper, Start.of({"config": {"Cmd": ["sh", "-c", text]}}), lambda: calls.append(1))

    words = len({"sh", "-c", text, "cd", ";", "x", "/same", *(f"/{number}" for number in range(60))})
    assert len(calls) == words * (1 + 60 + 1)


@pytest.mark.parametrize("changes", [100, 101])
def test_command_that_changes_its_directory_too_often_is_unread(changes):
    """Each directory has the ones before it in its path, so that many take memory that grows with their square."""
    start = Start.of({"config": {"Cmd": ["sh", "-c", "cd a; " * (changes - 50)], "Entrypoint": ["cd", "b"] * 50}})
    long = Start.of({"config": {"Cmd": ["cd", "a" * 2000] * 9000}})
    keeper, files = lay_files({})

    assert has_unread_command(start) is (changes > 100)
    find_started(files, keeper, long, lambda: None)


def test_python_started_after_cd_to_impossible_path_is_found():
    """The shell stays where it is."""
    keeper, files = lay_files({"app/data.txt": CODE})
    command = ["cd", "a" * 40_000, "cd", "b" * 40_000, "cd", "/app", "python3", "data.txt"]

    assert find_started(files, keeper, Start.of({"config": {"Cmd": command}}), lambda: None).scripts


def test_text_with_many_spellings_of_its_path_is_parsed_once(monkeypatch):
    """A variable can have thousands."""
    parsed = []

    def is_python(content):
        parsed.append(content)
        return False

    monkeypatch.setattr(python_sources, "is_python_text", is_python)
    spellings = " ".join(f"/app{'/' * number}x" for number in range(1, 100))

    assert find({"app/x": TEXT + b"1"}, config={"Env": [f"A={spellings}"]}) == PythonSources()
    assert parsed.count(TEXT + b"1") == 2, "once as started, once by its text"


def test_search_for_started_python_ends_when_its_budget_is_used():
    """A configuration may have thousands of words."""
    keeper, files = lay_files({})

    def checkpoint():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        find_started(files, keeper, Start.of({"config": {"Cmd": ["a", "b"]}}), checkpoint)


@pytest.mark.parametrize("path", ["app/node_modules/main", "opt/site-packages/run.txt", "usr/share/app/main"])
def test_script_among_packages_that_no_record_lists_is_found(path):
    """Nothing else judges it."""
    assert find({path: CODE}, config={"Cmd": ["python", f"/{path}"]}) == PythonSources({f"/{path}": CODE})


def test_script_started_by_configuration_is_judged_in_any_directory():
    """Somebody may have put it where programs are installed."""
    files = {"usr/bin/server": CODE, "app/server": b"#" * (HEAD + 1)}
    config = {"Cmd": ["sh", "-c", "python3 /usr/bin/server & python3 /app/server"]}

    assert find(files, config=config) == PythonSources({"/usr/bin/server": CODE}, ("/app/server",))


@pytest.mark.parametrize(
    "path", ["app/helper.py", "app/HELPER.PY", "app/helper.pyw", "usr/src/app/a.py", "etc/python3/a.py", "library/a.py"]
)
def test_python_file_that_was_not_read_is_found(path):
    """It may come from a text, from a heredoc or from a step of the build."""
    assert find({path: CODE}) == PythonSources({f"/{path}": CODE})


SYSTEM = [
    "usr/lib/python3/a.py", "lib64/a.py", "usr/libexec/a.py", "usr/share/app/a.py", "usr/bin/a.py", "sbin/a.py",
    "var/lib/app/a.py", "usr/lib/python3/dist-packages/a.py", "lib/python3/site-packages/a.py",
]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [*SYSTEM, "usr/local/bin/a.py", "usr/local/lib/python3.12/a.py", "usr/local/share/a.py", "var/cache/a.py",
     "app/node_modules/a.py"],
)  # fmt: skip
def test_python_file_that_no_package_lists_is_found_everywhere(path):
    """Somebody put it where packages have theirs."""
    assert find({path: CODE}) == PythonSources({f"/{path}": CODE})


@pytest.mark.parametrize("path", ["proc/a.py", "sys/a.py"])
def test_python_file_below_a_mount_is_left_out(path):
    """A container does not have it."""
    assert find({path: CODE}) == PythonSources()


def sums(path, content):
    """Return a line of a Debian package's checksums."""
    return f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {path}\n".encode()


def apk(path, content):
    """Return a package with one file in apk's database."""
    directory, _, name = path.rpartition("/")
    digest = base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
    return f"C:Q1x=\nP:a\nV:1\nF:{directory}\nM:0:0:755\nR:{name}\na:0:0:755\nZ:Q1{digest}\n".encode()


SYSTEM_RECORDS = {
    "var/lib/dpkg/info/a.md5sums": sums,
    "var/lib/dpkg/status.d/a.md5sums": sums,
}


@pytest.mark.parametrize("record", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_apk_record_proves_no_python_file(record):
    """A step of a build can write it, and it is compared with no archive."""
    path = "usr/lib/hat/a.py"

    assert find({path: CODE, record: apk(path, CODE)}) == PythonSources({f"/{path}": CODE})


@pytest.mark.parametrize("record", SYSTEM_RECORDS)
@pytest.mark.parametrize("path", SYSTEM)
def test_python_file_equal_to_record_of_system_package_is_left_out(path, record):
    """The scanner judges packages, but not what somebody changed in one."""
    line = SYSTEM_RECORDS[record](path, CODE)

    assert find({path: CODE, record: line}) == PythonSources()
    assert find({path: CODE + b"\n", record: line}) == PythonSources({f"/{path}": CODE + b"\n"})


def test_python_file_that_one_of_two_records_lists_is_left_out():
    """Debian changes files of Python projects, and leaves the project's own record as it is."""
    place = "usr/lib/python3/dist-packages"
    own, other = listed("a.py", CODE + b"#"), listed("a.py", CODE)
    for record, line in ((own, sums(f"{place}/a.py", CODE)), (other, sums(f"{place}/a.py", CODE + b"#"))):
        files = {f"{place}/a.dist-info/RECORD": record, "var/lib/dpkg/info/a.md5sums": line}
        assert find({f"{place}/a.py": CODE, **files}) == PythonSources()
        assert len(find({f"{place}/a.py": b"1", **files}).files) == 1


@pytest.mark.parametrize("record", SYSTEM_RECORDS)
def test_python_file_too_large_for_comparison_with_record_is_named(record):
    """Somebody may have replaced it by a larger one."""
    path, large = "usr/lib/python3/a.py", CODE + b"#" * HEAD

    assert find({path: large, record: SYSTEM_RECORDS[record](path, CODE)}) == PythonSources({}, (f"/{path}",))


def test_record_of_a_system_package_may_name_a_file_through_a_link():
    """Debian's packages and its images disagree about /lib."""
    files = {"usr/lib/a.py": CODE, "var/lib/dpkg/info/a.md5sums": sums("lib/a.py", CODE)}

    assert find(files, {"lib": "usr/lib", "usr/share/b.py": "/lib/a.py"}) == PythonSources()


@pytest.mark.parametrize("line", [b"", b"\xff", b"Z:Q1=\n", b"R:a\nZ:Q1x\n", b"F:\nZ:Q9AAAA\n", b"00  usr/bin/a.py\n"])
@pytest.mark.parametrize("record", SYSTEM_RECORDS)
def test_damaged_record_of_system_package_proves_no_file(line, record):
    """Whoever builds the image writes it."""
    assert find({"usr/bin/a.py": CODE, record: line}) == PythonSources({"/usr/bin/a.py": CODE})


@pytest.mark.parametrize(
    "database", ["var/lib/rpm/Packages", "var/lib/pacman/local/a-1/desc", "var/db/pkg/x/a/CONTENTS"]
)
def test_python_file_in_system_directory_is_left_out_without_records(database):
    """The lists of these package managers are not read."""
    content = {"desc": b"%NAME%\na\n%VERSION%\n1\n", "Packages": b"RpmP"}.get(database.rpartition("/")[2], b"")

    found = find({"usr/lib/a.py": CODE, "usr/local/bin/a.py": CODE + b"\n", database: content})

    assert found == PythonSources({"/usr/local/bin/a.py": CODE + b"\n"})


def test_directory_named_as_a_record_is_no_record():
    """Below /usr, everything would count as the distribution's."""
    found = find({"usr/lib/a.py": CODE, "var/db/pkg/x/CONTENTS/a": b""})

    assert found == PythonSources({"/usr/lib/a.py": CODE})


LIBRARY = {f"usr/local/lib/python3.12/{name}.py": CODE for name in sorted(sys.stdlib_module_names)[-150:]}
PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0"
INTERPRETER = {"usr/local/bin/python3.12": PROGRAM}


def test_library_of_an_interpreter_that_no_package_installed_is_left_out():
    """Python's own image has 1,700 such files."""
    more = ["os.py", "__pycache__/os.cpython-312.py", "lib2to3/a.py", "config-3.12-x86_64-linux-gnu/a.py", "xml/a.py"]

    assert find(LIBRARY | INTERPRETER | {f"usr/local/lib/python3.12/{name}": CODE for name in more}) == PythonSources()


APK_LIBRARY = {
    path.replace("local/", ""): content for path, content in {**LIBRARY, **INTERPRETER}.items()
}  # fmt: skip
APK = SystemFiles(has_apk=True)


def test_library_of_an_interpreter_that_apk_installed_is_left_out():
    """The lists of apk's packages do not count, and a scanner of source finds a hundred things in it."""
    assert find(APK_LIBRARY, system=APK) == PythonSources()
    assert len(find(APK_LIBRARY).files) == 1, "without apk, they are files of nobody, all of one content"
    assert len(find({**APK_LIBRARY, "var/lib/dpkg/status": b""}, system=APK).files) == 1


def test_apk_library_is_judged_only_where_it_differs_from_base():
    """Otherwise a build could change any of its modules."""
    base = {f"/{path}": (("sha256", hashlib.sha256(content).digest()),) for path, content in APK_LIBRARY.items()}
    image = {**APK_LIBRARY, "usr/lib/python3.12/socket.py": TEXT}

    assert find(image, system=SystemFiles(base=base, has_apk=True)).files == {"/usr/lib/python3.12/socket.py": TEXT}


@pytest.mark.parametrize(
    ("files", "path"),
    [
        (APK_LIBRARY, "usr/lib/python3.12/site-packages/a.py"),
        (APK_LIBRARY, "usr/lib/python3.12/app.py"),
        (LIBRARY | INTERPRETER, "usr/local/lib/python3.12/site-packages/a.py"),
        (LIBRARY | INTERPRETER, "usr/local/lib/python3.12/app.py"),
        (LIBRARY | INTERPRETER, "usr/local/lib/python3.12/app/os.py"),
        (LIBRARY | INTERPRETER, "usr/local/lib/python3.11/os.py"),
        (dict(list(LIBRARY.items())[:90]) | INTERPRETER, "usr/local/lib/python3.12/os.py"),
        (LIBRARY | {"usr/local/bin/python3.12": b"#!/bin/sh\n"}, "usr/local/lib/python3.12/os.py"),
        ({"usr/local/bin/python9": PROGRAM}, "usr/local/lib/python9/os.py"),
    ],
)
def test_other_file_next_to_standard_library_is_found(files, path):
    """A made-up interpreter has no library, and an application is no module of one."""
    assert f"/{path}" in find(files | {path: CODE + b"\n"}, system=APK).files


STARTUP = b"# comment\n/opt/lib\nimport os; os.system('id')\n"


def test_unlisted_startup_file_is_judged_by_lines_that_python_runs():
    """Python runs them at each start."""
    place = "opt/venv/lib/python3.12/site-packages"
    record = {f"{place}/a.dist-info/RECORD": listed("listed.pth", STARTUP)}
    files = {f"{place}/listed.pth": STARTUP, f"{place}/a.pth": STARTUP + b"\n", f"{place}/paths.pth": b"/opt/lib\n"}

    found = find(files | record | {"app/b.py": STARTUP + b"\n"})

    assert found == PythonSources({
        f"/{place}/a.pth": b"\n\nimport os; os.system('id')\n\n", "/app/b.py": STARTUP + b"\n",
    })  # fmt: skip


def test_large_startup_file_is_named_only_among_packages():
    """A model of PyTorch has such a name too."""
    files = {"app/model.pth": b"#" * (HEAD + 1), f"{PACKAGES}/a.pth": b"#" * (HEAD + 2)}

    assert find(files) == PythonSources({}, (f"/{PACKAGES}/a.pth",))


@pytest.mark.parametrize("separator", [b"\n", b"\r", b"\x0c", b"\x1e", b"\xc2\x85", b"\xe2\x80\xa8"])
def test_startup_line_begins_after_every_separator(separator):
    """Python 3.13 splits the lines of a `.pth` file at more than line feeds."""
    assert select_startup_lines(b"# x" + separator + b"import os\n").strip() == b"import os"


def test_python_file_with_checked_content_is_left_out():
    """Where it is copied to does not matter, and a changed file was not read."""
    assert find({"app/a.py": CODE, "app/b.py": CODE + b"\n"}, checked=[CODE]) == PythonSources(
        {"/app/b.py": CODE + b"\n"}
    )


def test_script_is_found_by_its_first_line():
    """Python needs no suffix to run a file."""
    script = b"#!/usr/bin/env python3\n" + CODE

    assert find({"entrypoint": script, "run": b"#!/bin/sh\n", "note": CODE}) == PythonSources({"/entrypoint": script})


def test_link_with_a_name_of_python_makes_its_target_python():
    """Python imports what the link leads to, wherever that is; a link that leads nowhere is none."""
    texts = {"app/helper.txt": CODE, "opt/share/other.txt": CODE + b"\n", "app/note.txt": CODE + b"\n\n"}
    links = {"app/a.py": "helper.txt", "app/b.py": "/opt/share/other.txt", "app/c.py": "gone", "app/d.py": "/app"}

    found = find(texts, {**links, "app/e": "note.txt"})

    assert found == PythonSources({"/app/a.py": CODE, "/app/b.py": CODE + b"\n"})


def test_equal_files_are_read_once():
    """Each would have the same findings."""
    assert find({"app/a.py": CODE, "app/b.py": CODE}) == PythonSources({"/app/a.py": CODE})


def test_large_python_file_is_named_unless_it_was_read():
    """Its content is not stored."""
    large, checked = CODE + b"#" * HEAD, b"#" * (HEAD + 1)
    contents = {"b.py": large, "c.py": checked, "a.py": large + b"#", "text": large + b"##", "most.py": b"#" * HEAD}

    assert find(contents, checked=[checked]) == PythonSources({"/most.py": b"#" * HEAD}, ("/a.py", "/b.py"))


@pytest.mark.parametrize(("limit", "most"), [("MOST_SOURCES", 2), ("MOST_BYTES", 3)])
def test_sources_over_a_limit_are_named(limit, most, monkeypatch):
    """Number and bytes are limited."""
    monkeypatch.setattr(python_sources, limit, most)

    assert find({"a.py": b"1", "b.py": b"22", "c.py": b"3"}) == PythonSources(
        {"/a.py": b"1", "/b.py": b"22"}, ("/c.py",)
    )


def test_files_with_equal_printable_names_hide_no_source():
    """A byte that is not UTF-8 is printed as an escape and may look like another name."""
    found = find({"a\udcff.py": b"1", "a\\xff.py": b"2"})

    assert (len(found.files), found.left) == (1, ("/a\\xff.py",))


def test_search_ends_when_its_budget_is_used():
    """An image may have millions of files."""

    def checkpoint():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        find({"a.txt": b""}, checkpoint=checkpoint)


PACKAGES = "opt/venv/lib/python3.12/site-packages"


def listed(name, content):
    """Return a line of a package's record."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(content)}\n".encode()


@pytest.mark.parametrize("directory", ["site-packages", "dist-packages"])
@pytest.mark.parametrize("before", ["usr/local/lib/python3.12", "opt/venv/lib/python3.12", "app"])
def test_python_file_equal_to_record_of_package_is_left_out(directory, before):
    """What somebody put beside the packages, or changed in one, is read."""
    place = f"{before}/{directory}"
    record = {f"{place}/a-1.dist-info/RECORD": listed("a/x.py", CODE) + listed("a/y.py", CODE) + b"a/z.py,,\n"}
    files = {f"{place}/a/x.py": CODE, f"{place}/a/y.py": b"1\n", f"{place}/a/z.py": b"2\n", f"{place}/b.py": b"3\n"}

    assert find(files | record) == PythonSources(
        {f"/{place}/a/y.py": b"1\n", f"/{place}/a/z.py": b"2\n", f"/{place}/b.py": b"3\n"}
    )


RECORDS = {
    "itself": (listed("../site-packages/a.py", CODE), f"{PACKAGES}/a.dist-info/RECORD"),
    "elsewhere": (listed("site-packages/a.py", CODE), "opt/venv/lib/python3.12/a.dist-info/RECORD"),
    "other packages": (
        listed("../site-packages/a.py", CODE),
        "opt/venv/lib/python3.12/dist-packages/a.dist-info/RECORD",
    ),
    "other digest": (listed("a.py", CODE).replace(b"sha256", b"sha1"), f"{PACKAGES}/a.dist-info/RECORD"),
    "other name": (listed("a.py", CODE), f"{PACKAGES}/a.dist-info/RECORD.txt"),
    "damaged": (listed("a.py", CODE) + b"b,sha256=A,\n", f"{PACKAGES}/a.dist-info/RECORD"),
}


@pytest.mark.parametrize("record", RECORDS)
def test_record_counts_only_for_the_packages_around_it(record):
    """Only the first is a record of this file."""
    line, place = RECORDS[record]
    found = find({f"{PACKAGES}/a.py": CODE, place: line})

    assert found.files == ({} if record == "itself" else {f"/{PACKAGES}/a.py": CODE})


def test_records_over_size_limit_prove_no_file(monkeypatch):
    """Memory stays bounded."""
    monkeypatch.setattr(package_records, "MOST_RECORDS", 10)
    record = {f"{PACKAGES}/a-1.dist-info/RECORD": listed("a.py", CODE)}

    assert find({f"{PACKAGES}/a.py": CODE} | record).files == {f"/{PACKAGES}/a.py": CODE}


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\0,,\n", b"a\n", b'"' + b"x" * 200_000 + b'",sha256=,\n', b"a,sha256=\xc3\xa9,\n", b"a,sha256=A,\n"],
    ids=range(6),
)
def test_any_record_is_read(content):
    """A damaged record lists nothing."""
    assert not parse_record(content, "/a").get("/a/a")
