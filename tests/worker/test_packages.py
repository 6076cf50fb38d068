"""Pinned packages: fetched by the real pip from a local index, checked and cached."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace

import pytest

from core.errors import DownloadFailed, Invalid
from worker.packages import PinnedPackage, fetch_package, parse_wheel_location, pip_arguments

FILENAME = "pinned_sample-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def package(index):
    info = "pinned_sample-1.0.dist-info"
    with zipfile.ZipFile(index / FILENAME, "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: pinned-sample\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return PinnedPackage(
        name="pinned-sample",
        version="1.0",
        filename=FILENAME,
        sha256=hashlib.sha256((index / FILENAME).read_bytes()).hexdigest(),
        licence="MIT",
    )


def test_second_fetch_needs_no_index(package, index, tmp_path):
    first = fetch_package(package, cache_dir=tmp_path / "cache")
    (index / FILENAME).unlink()
    assert fetch_package(package, cache_dir=tmp_path / "cache") == first
    assert hashlib.sha256(first.read_bytes()).hexdigest() == package.sha256
    assert [path.name for path in first.parent.iterdir()] == [FILENAME]


def test_damaged_cache_is_fetched_anew(package, tmp_path):
    path = fetch_package(package, cache_dir=tmp_path / "cache")
    path.write_bytes(b"half a file")
    fetch_package(package, cache_dir=tmp_path / "cache")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256


def test_other_hash_is_refused_and_leaves_nothing(package, tmp_path):
    other = replace(package, sha256="0" * 64)
    with pytest.raises(DownloadFailed, match=f"{package.sha256}, not {'0' * 64}"):
        fetch_package(other, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


BACKEND = """
import pathlib
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder, "needs_sample-2.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: needs-sample\\nVersion: 2.0\\n")
    return info.name
def build_wheel(folder, config_settings=None, metadata_directory=None):
    raise SystemExit("nothing is to be built")
"""


def test_an_sdist_is_read_with_wheels_and_built_with_nothing(package, index, tmp_path):
    """What its metadata is read with is a wheel: nothing compiles, no compiler is needed."""
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: needs-sample\nVersion: 2.0\n",
        "pyproject.toml": f'[build-system]\nrequires = ["{package.name}"]\n'
        'build-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND,
    }
    archive = index / "needs_sample-2.0.tar.gz"
    with tarfile.open(archive, "w:gz") as sdist:
        for name, text in files.items():
            member = tarfile.TarInfo(f"needs_sample-2.0/{name}")
            member.size = len(text.encode())
            sdist.addfile(member, io.BytesIO(text.encode()))
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    needing = PinnedPackage(
        name="needs-sample", version="2.0", filename=archive.name, sha256=sha256, licence="MIT"
    )
    fetched = fetch_package(needing, cache_dir=tmp_path / "cache")
    assert fetched.read_bytes() == archive.read_bytes()


def test_unreachable_index_says_how_to_mend_it(package, index, tmp_path):
    (index / FILENAME).unlink()
    with pytest.raises(DownloadFailed, match=r"pinned-sample==1\.0") as caught:
        fetch_package(package, cache_dir=tmp_path / "cache")
    assert "network" in caught.value.hint


def test_platform_wheel_is_chosen_whatever_machine_asks():
    package = PinnedPackage(
        name="gensim",
        version="4.3.3",
        filename="gensim-4.3.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256="0" * 64,
        licence="LGPL-2.1-only",
    )
    arguments = pip_arguments(package)
    assert arguments[arguments.index("--python-version") + 1] == "311"
    assert arguments.count("--platform") == 2


@pytest.mark.parametrize("location", ["six", "six==1.0", "six==1.0#abc", "../six==1#" + "0" * 64])
def test_malformed_wheel_location_is_refused(location):
    with pytest.raises(Invalid, match="names no wheel"):
        parse_wheel_location(location)
