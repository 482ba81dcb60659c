"""Model of a server: a name and a declared shape, of which neither weights nor tokenizer are on this machine."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import cache
from bench.errors import UsageError
from bench.models.interface import ModelSource, PreparedModel, Progress, Provenance, silent
from bench.models.source import resolve
from bench.records.config import RunConfig
from bench.records.files import write_atomically
from bench.records.paths import without_paths


@dataclass(frozen=True)
class ServedModel(ModelSource):
    """A model behind a server with the OpenAI interface.

    Attributes:
        name: Name of the model at the server.
        shape: Text of the declared config.json.
    """

    name: str
    shape: str

    def config(self) -> dict[str, Any]:
        """Return the declared config.json.

        Raises:
            UsageError: If it is not one.
        """
        try:
            found = json.loads(self.shape)
        except ValueError as error:
            raise UsageError(f"--declared-shape: not JSON ({error}); give the model's config.json") from error
        if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
            raise UsageError(
                "--declared-shape: has no model_type; give the model's config.json, as transformers writes it"
            )
        return found

    def local(self) -> Path | None:
        """Return None: there is no checkpoint on this machine."""
        return None

    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Return a folder that holds config.json alone."""
        folder = cache.folder("served") / self.fingerprint[:16]
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "config.json", self._plain + "\n")
        return PreparedModel(str(folder), None, Provenance(f"endpoint {self.label}", self.fingerprint, None))

    @property
    def fingerprint(self) -> str:
        """Hash of name and shape, in place of one of files.

        A server's name of a model is often a path, and a config.json may have one too. Of a path the last part enters
        the hash, because published records have no more of it.
        """
        return hashlib.sha256(
            json.dumps(["endpoint", without_paths(self.name), without_paths(self._plain)]).encode()
        ).hexdigest()

    @property
    def _plain(self) -> str:
        return json.dumps(self.config(), sort_keys=True)


def source_of(config: RunConfig) -> ModelSource:
    """Return the source of a run's model, without downloading anything.

    Raises:
        UsageError: If there is no such model.
    """
    if config.engine != "endpoint":
        return resolve(config.model)
    slug = re.sub(r"[^\w.-]+", "--", config.model).strip("-.") or "model"
    return ServedModel(config.model_label, f"endpoint-{slug}", config.model, config.declared_shape or "{}")
