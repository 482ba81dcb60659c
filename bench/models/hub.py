"""Models on the Hugging Face hub or in its local cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.models.adapter import is_adapter
from bench.models.checkpoint import FILES, folder_sha256, read_config
from bench.models.embedded import ACCEPTED
from bench.models.folder import check_files
from bench.models.interface import ModelSource, PreparedModel, Progress, Provenance, silent


@dataclass(frozen=True)
class HubModel(ModelSource):
    """A model on the hub. A branch or tag is pinned to its commit when the model is prepared.

    Attributes:
        id: Hub id, such as `Qwen/Qwen2.5-3B`.
        revision: Branch, tag or commit; None for the default branch.
    """

    id: str
    revision: str | None

    @classmethod
    def named(cls, model_id: str, revision: str | None) -> HubModel:
        """Return the source for an id and a branch, tag or commit."""
        label = model_id if revision is None else f"{model_id}@{revision}"
        return cls(label, re.sub(r"[/@]", "--", label), model_id, revision)

    def config(self) -> dict[str, Any] | None:
        """Return the configuration if it is in the hub's local cache, else None."""
        folder = self.local()
        return None if folder is None else read_config(folder)

    def local(self) -> Path | None:
        """Return the snapshot if its configuration is in the hub's local cache, else None. Weights may be missing."""
        try:
            from huggingface_hub import try_to_load_from_cache
        except ImportError:
            return None
        found = try_to_load_from_cache(self.id, "config.json", revision=self.revision)
        return Path(found).parent if isinstance(found, str) else None

    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Download missing files to the hub's local cache. Without a network, the cached files must suffice."""
        try:
            from huggingface_hub import snapshot_download
            from huggingface_hub.errors import HfHubHTTPError, HFValidationError
        except ImportError as error:
            raise self._unavailable("hub models need pip install 'bench-post-training[local]'") from error
        progress(f"fetching {self.label} from the hub", 0, None)
        try:
            folder = Path(snapshot_download(self.id, revision=self.revision, allow_patterns=list(FILES)))
        except (OSError, HfHubHTTPError, HFValidationError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise self._unavailable(f"cannot be fetched from the hub ({reason})") from error
        if is_adapter(folder):
            raise self._unavailable(
                f"the repository holds an adapter; download it (`hf download {self.id} --local-dir FOLDER`) and give "
                "--model that folder"
            )
        check_files(folder)
        # The name of a snapshot's folder is its commit.
        provenance = Provenance(f"hub {self.id}@{folder.name}", folder_sha256(folder), None)
        return PreparedModel(str(folder), folder.name, provenance)

    def _unavailable(self, reason: str) -> BenchError:
        return BenchError(f"--model {self.label}: {reason}; {ACCEPTED}")
