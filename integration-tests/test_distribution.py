"""What is installed: each wheel works alone, and dependencies point one way (package -> core -> FastAPI)."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLIENTS = {
    "kafka": "aiokafka",
    "confluent": "confluent_kafka",
    "rabbit": "aio_pika",
    "nats": "nats",
    "redis": "redis",
}
FOLDERS = {"core": ROOT / "shared", **{name: ROOT / "packages" / f"fastapi-stream-{name}" for name in CLIENTS}}

# FastAPI, and what FastAPI itself requires: the core may import these and no other distribution.
CORE_IMPORTS = {
    *("fastapi", "starlette", "pydantic", "pydantic_core", "typing_extensions", "anyio", "annotated_doc"),
    "annotated_types",  # pydantic's words for bounds
}
BROKER_WORDS = re.compile(r"kafka|rabbit|confluent|redis(?!t)|amqp|aio_?pika|\bnats|nats\b|_nats|nats_", re.IGNORECASE)
# Words that are left in the core, each with the reason why it is not knowledge of one broker.
ALLOWED_WORDS: dict[str, str] = {}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    built = {}
    for name, folder in FOLDERS.items():
        place = tmp_path_factory.mktemp(name)
        run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)], cwd=folder)
        (built[name],) = place.glob("*.whl")
    return built


@pytest.mark.parametrize("name", CLIENTS)
def test_a_wheel_works_alone_and_imports_no_other_client(name: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(tmp_path / "env")])
    run(
        [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            str(wheels["core"]),
            str(wheels[name]),
        ]
    )
    program = (
        "import json, sys\n"
        f"import fastapi_stream_{name} as package, fastapi_stream_{name}.__about__ as about\n"
        "missing = [n for n in package.__all__ if not hasattr(package, n)]\n"
        "print(json.dumps([about.__version__, missing, sorted({m.partition('.')[0] for m in sys.modules})]))"
    )
    output = run([str(python), "-W", "error", "-I", "-c", program], cwd=tmp_path)
    version, missing, modules = json.loads(output)
    assert version == version_of(name)
    assert not missing
    assert f"fastapi_stream_{name}" in modules
    others = {client for other, client in CLIENTS.items() if other != name}
    assert not others & set(modules)
    assert not {f"fastapi_stream_{other}" for other in CLIENTS if other != name} & set(modules)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_holds_what_it_should(name: str, wheels: dict[str, Path]) -> None:
    package = f"fastapi_stream_{name}"
    with zipfile.ZipFile(wheels[name]) as wheel:
        files = wheel.namelist()
        (metadata_file,) = (file for file in files if file.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(wheel.read(metadata_file).decode())
    assert {f"{package}/py.typed", f"{package}/__about__.py"} <= set(files)
    assert {file.partition("/")[0] for file in files} == {package, metadata_file.partition("/")[0]}
    sources = {file.relative_to(FOLDERS[name] / "src").as_posix() for file in source_files(name, "*")}
    assert sources <= set(files), "a file of the package is left out of the wheel"
    assert metadata["Name"] == f"fastapi-stream-{name}"
    assert metadata["Version"] == version_of(name)
    assert metadata["License-Expression"] == "Apache-2.0"
    required = {re.split(r"[^\w-]", line)[0].lower() for line in metadata.get_all("Requires-Dist", [])}
    expected = {"fastapi"} if name == "core" else {"fastapi-stream-core", CLIENTS[name].replace("_", "-")}
    assert required == (expected if name != "nats" else {"fastapi-stream-core", "nats-py"})


@pytest.mark.parametrize("name", FOLDERS)
def test_every_distribution_carries_the_license(name: str) -> None:
    assert (FOLDERS[name] / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("name", FOLDERS)
def test_the_changelog_knows_the_version(name: str) -> None:
    assert re.search(
        rf"^## {re.escape(version_of(name))}\b", (FOLDERS[name] / "CHANGELOG.md").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_dependencies_point_one_way(name: str) -> None:
    package = f"fastapi_stream_{name}"
    if name == "core":
        allowed = {package, *CORE_IMPORTS}
    else:
        allowed = {package, "fastapi_stream_core", *CORE_IMPORTS, *OWN_CLIENTS[name]}
    for file in source_files(name):
        foreign = imported(ast.parse(file.read_text())) - allowed - set(sys.stdlib_module_names)
        if "conformance" in file.parts:  # the suite for packages, which only their tests import
            foreign.discard("pytest")
        assert not foreign, f"{file.relative_to(ROOT)} imports {', '.join(sorted(foreign))}"


def test_the_core_names_no_broker() -> None:
    """Identifiers and strings; comments and docstrings may take a broker as an example."""
    named = [
        f"{file.relative_to(ROOT)}:{line}: {word}"
        for file in source_files("core")
        for line, word in words(ast.parse(file.read_text()))
        if BROKER_WORDS.search(word) and word not in ALLOWED_WORDS
    ]
    assert not named, "\n".join(named)


def test_every_allowed_word_is_still_there() -> None:
    found = {word for file in source_files("core") for _, word in words(ast.parse(file.read_text()))}
    assert set(ALLOWED_WORDS) <= found


SHARED = {
    *("StreamError", "BrokerUnavailable", "NotStarted", "PublishError", "SetupError", "ContextError", "DecodeError"),
    *("EncodeError", "ReplyRefused", "StartInterrupted", "WrongEventLoop"),  # all that the core raises
    *("AckMessage", "NackMessage", "RejectMessage", "SkipMessage", "AckPolicy"),
    *("Context", "ContextRepo", "Headers", "Logger", "Response", "StreamMessage", "AsyncAPI", "BaseSecurity"),
    "__version__",
}
"""What an application imports of each package."""


@pytest.mark.parametrize("name", CLIENTS)
def test_an_application_imports_everything_from_the_package_of_its_broker(name: str) -> None:
    package = import_module(f"fastapi_stream_{name}")
    assert set(package.__all__) >= SHARED
    assert all(hasattr(package, one) for one in package.__all__)


def test_the_core_raises_no_error_that_packages_do_not_have() -> None:
    errors = import_module("fastapi_stream_core.errors")
    public = {one for one in errors.__all__ if isinstance(getattr(errors, one), type)}
    assert public <= SHARED


@pytest.mark.parametrize("name", CLIENTS)
def test_what_led_to_an_error_of_the_broker_shows_no_password(name: str) -> None:
    """A client quotes addresses in its errors, and a traceback shows them."""
    bare = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in source_files(name)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and ast.unparse(node.exc.func) == "BrokerUnavailable"
        and isinstance(node.cause, (ast.Name, ast.Attribute))
    ]
    assert not bare, f"{', '.join(bare)}: raise it from clean_cause(error)"


# What a package may import of its client, with what that client itself requires and shows in its interface.
OWN_CLIENTS = {
    "kafka": {"aiokafka"},
    "confluent": {"confluent_kafka"},
    "rabbit": {"aio_pika", "aiormq", "pamqp", "yarl"},
    "nats": {"nats"},
    "redis": {"redis", "hiredis"},
}


def run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def version_of(name: str) -> str:
    text = (FOLDERS[name] / "src" / f"fastapi_stream_{name}" / "__about__.py").read_text()
    found = re.fullmatch(r'__version__ = "(.+)"\n', text)
    assert found, "__about__.py holds the version and nothing else"
    return found[1]


def source_files(name: str, pattern: str = "*.py") -> list[Path]:
    package = FOLDERS[name] / "src" / f"fastapi_stream_{name}"
    files = [file for file in package.rglob(pattern) if file.is_file()]
    return sorted(
        file for file in files if not re.search(r"(^|/)(\.|__pycache__)", file.relative_to(package).as_posix())
    )


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return names


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every identifier and every string of the module, but not its docstrings."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and id(node) not in prose:
                yield line, node.value
            continue
        for key in ("id", "attr", "name", "arg", "asname", "module"):
            if isinstance(value := getattr(node, key, None), str):
                yield line, value
