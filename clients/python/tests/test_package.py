"""The package as others get it: built, installed where nothing else is, and used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from service import ROOT, Service, sender_token

PACKAGE = ROOT / "clients" / "python"


def run(*command: str | Path, cwd: Path | None = None, **env: str) -> str:
    """Runs it, and answers with what it printed."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=clean | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist, made of the checkout."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", directory, cwd=PACKAGE)
    return directory


def test_the_wheel_has_all_and_no_more(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(PACKAGE / "src"))
        for path in (PACKAGE / "src").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == sources
    assert "doorbell_client/py.typed" in names
    assert "doorbell_client/_generated/types.py" in names


def test_the_sdist_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    run("tar", "-xzf", sdist, "-C", tmp_path)
    [unpacked] = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=unpacked)
    [wheel], [again] = built.glob("*.whl"), tmp_path.glob("*.whl")
    assert wheel.read_bytes() == again.read_bytes()


def test_the_wheel_is_all_that_is_needed(built: Path, tmp_path: Path, shared: Service) -> None:
    """In an environment of its own, with the oldest versions that it says it takes."""
    venv.create(tmp_path / "env", symlinks=True, with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    [wheel] = built.glob("*.whl")
    oldest = PACKAGE / "tests" / "oldest.txt"
    cache = ROOT / "target" / "tools" / "pip"
    run(
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--cache-dir", cache, "--only-binary=:all:", "--constraint", oldest, wheel),
    )
    shutil.copy(PACKAGE / "tests" / "uses.py", tmp_path)
    env = {"DOORBELL_URL": shared.url, "DOORBELL_TOKEN": sender_token()}
    assert run(python, "uses.py", cwd=tmp_path, **env) == "1 unread\n3 likes\n"
    # Its types are seen, as strictly as anybody may want.
    checks = ("--strict", "--python-executable", str(python), "--cache-dir", str(tmp_path / "c"))
    run(sys.executable, "-m", "mypy", *checks, "uses.py", cwd=tmp_path)


def test_nothing_else_that_is_made_from_the_proto_is_in_its_way(tmp_path: Path) -> None:
    """Stubs of another version of the proto, in the same process."""
    proto = tmp_path / "proto" / "doorbell" / "v1"
    proto.mkdir(parents=True)
    (proto / "notifications.proto").write_text(
        'syntax = "proto3"; package doorbell.v1; message Notification { string id = 1; }'
    )
    run(
        *(sys.executable, "-m", "grpc_tools.protoc", "--proto_path", tmp_path / "proto"),
        *("--python_out", tmp_path, "doorbell/v1/notifications.proto"),
    )
    program = """if True:
        from doorbell.v1.notifications_pb2 import Notification as Theirs
        from doorbell_client import Notification
        from doorbell_client._messages import message_class
        assert len(Theirs.DESCRIPTOR.fields) == 1
        assert len(message_class("doorbell.v1.Notification").DESCRIPTOR.fields) > 10
        print(Notification.__name__)
    """
    source = os.pathsep.join([str(PACKAGE / "src"), str(tmp_path)])
    assert run(sys.executable, "-c", program, PYTHONPATH=source) == "Notification\n"
