"""A run's artifact as a model repository, and back.

The repository holds:

    README.md                             card, made from the record
    seed-0-1a2b3c4d.json                  record, as `bench publish` keeps it
    config.json, model.safetensors, ...   files of the artifact, as `bench export` writes them
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from bench.errors import BenchError, Refused, UsageError
from bench.hub.client import Content, Repository
from bench.hub.model_card import model_card
from bench.records.digests import ARTIFACT
from bench.records.files import folder_digest, read, write_atomically
from bench.records.schema import Result
from bench.run.endpoint import require_weights
from bench.run.saved import check_saved
from reports.leaderboard.committed import compact
from reports.reading import read_record
from reports.record import Record

CARD = "README.md"
RESULT = "result.json"
_RECORD = "seed-*.json"
_VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt")
"""Files in which names of folders such as `/root` are tokens."""


def record_name(result: Result) -> str:
    """Return the name of a run's record file, such as `seed-0-1a2b3c4d.json`."""
    return f"seed-{result.config.seed}-{result.id[:8]}.json"


def write_model(run: Path, repository: Repository, folder: Path, dtype: str | None = None) -> Result:
    """Write the files of a model repository to a folder, and return the run's result.

    Args:
        run: Run directory.
        repository: Repository that they are for.
        folder: Empty folder.
        dtype: `float32` for the weights as computed; None for the type that the run tested them in.

    Raises:
        UsageError: If the run has not finished, or has no artifact.
        Refused: If a server ran its model, it ended badly, is a test, or returned the unchanged base.
        BenchError: If a file of the run was changed.
    """
    record = read_record(run)
    result = record.result
    require_weights(run, result)
    check_saved(run, result)
    if result.status != "ok" or result.saved is None:
        why = f"ended as {result.status}" if result.status != "ok" else "an earlier version recorded no digest of it"
        raise Refused(f"{run}: its artifact cannot be pushed: {why}; push a run that ended well")
    if not any(row.changed for row in result.artifacts):
        raise Refused(f"{run}: its artifact is the unchanged base, which others publish; push a run that changed it")
    shutil.copytree(run / ARTIFACT, folder, dirs_exist_ok=True)
    if dtype is not None:
        from bench.run.export import write_float32  # loads torch

        write_float32(run, result, folder)
    name, text = record_name(result), compact(record)
    if taken := next((each for each in (CARD, name) if (folder / each).exists()), None):
        raise Refused(f"{run / ARTIFACT / taken}: the card or the record would replace this file; nothing was pushed")
    write_atomically(folder / name, text)
    published = read_record(folder / name).result
    write_atomically(folder / CARD, model_card(published, repository.name, name, dtype))
    _check_private(folder, [Path.home(), run.absolute(), Path(result.config.model)])
    return published


def _check_private(folder: Path, places: Iterable[Path]) -> None:
    """Check that no file names one of these folders of this machine, or a file in it.

    Raises:
        Refused: If one does. Weights and vocabularies are not searched.
    """
    private = [str(place) for place in places if place.is_absolute() and place != Path("/")]
    for path in sorted(folder.rglob("*")):
        searched = path.is_file() and path.suffix != ".safetensors" and path.name not in _VOCABULARIES
        content = read(path) if searched else b""
        if named := next((place for place in private if place.encode() in content), None):
            raise Refused(
                f"{ARTIFACT}/{path.relative_to(folder)}: names {named}, a place on this machine, which would be "
                "published; nothing was pushed"
            )


def check_same_run(there: Content | None, repository: Repository, result: Result) -> None:
    """Check that a repository is empty, or holds this run.

    Raises:
        Refused: If it holds something else.
    """
    if there is None or not there.files or record_name(result) in there.files:
        return
    other = [name.removesuffix(".json") for name in sorted(there.files) if fnmatch(name, _RECORD)]
    held = f"another run, {other[0]}" if other else "files that bench did not push"
    raise Refused(
        f"{repository}: holds {held}; push to another repository or another --revision, or replace its files with "
        "--replace"
    )


def unpack_model(staging: Path, repository: Repository, folder: Path) -> Record:
    """Make a folder from the files of a model repository that was downloaded, and return its record.

    The folder is one that `bench test` takes in place of a run directory: `result.json` is the result in the record,
    and `artifact` holds the other files. Record and card stay beside them. Weights that were pushed in float32 are not
    those that the run tested, so `result.json` is left out. Of such a model the weights alone are checked: in the run's
    dtype they must be those of the record.

    Args:
        staging: Downloaded files. They are moved.
        repository: Where they are from.
        folder: Empty folder.

    Raises:
        UsageError: If the repository holds no record.
        BenchError: If the record contradicts itself, or the files are not those of its run.
    """
    found = sorted(staging.glob(_RECORD))
    if len(found) != 1:
        raise UsageError(
            f"{repository}: holds {len(found) or 'no'} record{'s' if len(found) > 1 else ''} of bench, and not one; "
            "`hf download` fetches other models"
        )
    record = read_record(found[0])
    result = record.result
    for name in (CARD, found[0].name):
        if (staging / name).exists():
            (staging / name).rename(folder / name)
    staging.rename(folder / ARTIFACT)
    now, then = folder_digest(folder / ARTIFACT), result.saved.sha256 if result.saved else None
    if now == then:
        write_atomically(folder / RESULT, result.model_dump_json(indent=1) + "\n")
    elif not _is_float32(folder / ARTIFACT, result):
        raise BenchError(
            f"{repository}: its files are not those of run {result.id[:8]} (SHA-256 {now[:12]}, and "
            f"{str(then)[:12]} in its record); nothing was written. Pull another --revision, or ask its owner to push "
            "the run again"
        )
    return record


def _is_float32(folder: Path, result: Result) -> bool:
    """Return whether the weights are those of the record before they were rounded to the dtype of the run."""
    if result.engine.get("dtype") == "float32" or not list(folder.rglob("config.json")):
        return False
    try:
        from bench.run.export import rounds_to_tested
    except ImportError as error:
        raise Refused(
            "weights in float32 are checked with torch: pip install -c requirements/cpu.txt '.[local]'"
        ) from error
    return rounds_to_tested(folder, result)
