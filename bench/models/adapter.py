"""Adapter folders, as peft saves them: merged into the base that they were trained on.

Such a folder holds `adapter_config.json`, which names the base (`base_model_name_or_path`), and
`adapter_model.safetensors`. The merged model is an ordinary checkpoint folder in the cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UsageError, shown
from bench.models import cache
from bench.models.alone import folder_size, run_alone
from bench.models.checkpoint import folder_sha256, json_object
from bench.models.folder import ADAPTER, check_contained
from bench.models.headers import INDEX, PICKLES, file_headers
from bench.models.headers import WEIGHTS as MODEL
from bench.models.interface import ModelSource, PreparedModel, Progress, Provenance, silent
from bench.models.local import slug
from bench.plain import sentence

VERSION = 1
"""Version of the merge, part of every cache key. Increment it when the same folders give another checkpoint."""

WEIGHTS = "adapter_model.safetensors"
BASE = "base_model_name_or_path"
PREFIX = "base_model.model."
"""What peft puts before the names of modules."""
ELSEWHERE = {
    "megatron_config": "a module to import, and no code is run for a model's files",
    "adapters": "other adapters, which are not part of the folder",
    "shadow_model": "another model, which is not part of the folder",
}
"""Settings that make peft load more than the adapter and its base."""
SHOWN_HASH = 16
NEEDS_PEFT = "merging an adapter needs peft: pip install 'bench-post-training[train]'"


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter and no weights of a model. Some trainers add the base's config."""
    others = any(file for pattern in (MODEL, INDEX, *PICKLES) for file in folder.glob(pattern))
    return (folder / ADAPTER).exists() and not others


@dataclass(frozen=True)
class Adapter(ModelSource):
    """An adapter folder, identified by its path. Preparing it merges it into its base.

    Attributes:
        folder: Absolute path.
        base: Source of the model that the adapter was trained on.
    """

    folder: Path
    base: ModelSource

    @classmethod
    def at(cls, folder: Path, resolve: Callable[[str], ModelSource]) -> Adapter:
        """Return the source for an absolute path.

        Args:
            folder: The adapter folder.
            resolve: Function that returns the source of a model name.

        Raises:
            UsageError: If the folder names no base that can be found, or another adapter.
        """
        settings = folder / ADAPTER
        given = json_object(settings)
        name, revision = given.get(BASE), given.get("revision")
        expected = f'put the folder or hub id of the base there, such as "{BASE}": "owner/name"'
        if not isinstance(name, str) or not name:
            raise UsageError(f"{settings}: {BASE} is {shown(name)}; {expected}")
        try:
            base = resolve(f"{name}@{revision}" if revision and not Path(name).expanduser().exists() else name)
        except UsageError as error:
            raise UsageError(f"{settings}: {BASE} is {shown(name)}, and no model ({error}); {expected}") from error
        if isinstance(base, cls):
            raise UsageError(f"{settings}: {BASE} is {shown(name)}, an adapter too; merge that one first")
        return cls(folder.name, slug(folder.name, hashlib.sha256(str(folder).encode()).hexdigest()), folder, base)

    def config(self) -> dict[str, Any] | None:
        """Return the configuration of the base."""
        return self.base.config()

    def local(self) -> Path | None:
        """Return the folder of the base, whose weights are about as large as the merged ones."""
        return self.base.local()

    def prepare(self, progress: Progress = silent) -> PreparedModel:
        """Return the merged checkpoint, and merge it first if it is not in the cache.

        Raises:
            BenchError: If peft is missing, or the adapter cannot be merged.
        """
        self.check()
        base = self.base.prepare(progress)
        progress(f"hashing {self.folder}", 0, None)
        own = folder_sha256(self.folder)
        both = hashlib.sha256(f"{base.provenance.sha256}\0{own}".encode()).hexdigest()

        def build(folder: Path) -> None:
            if importlib.util.find_spec("peft") is None:
                raise BenchError(NEEDS_PEFT)
            progress(f"merging {self.folder} into {self.base.label}", 0, None)
            arguments = [base.path, str(self.folder), str(folder)]
            failed = f"{self.folder} could not be merged into {self.base.label}"
            run_alone("bench.models.adapter", arguments, failed, size=size + folder_size(self.folder))

        size = folder_size(Path(base.path))
        merged = cache.obtain(f"adapter-{both[:32]}-v{VERSION}", build, progress, needs=size)
        origin = (
            f"adapter {self.folder} (sha256 {own[:SHOWN_HASH]}) merged into {base.provenance.origin} "
            f"(sha256 {base.provenance.sha256[:SHOWN_HASH]})"
        )
        return PreparedModel(str(merged), None, Provenance(origin, both, base.provenance.licence))

    def check(self) -> None:
        """Check what the files tell: that the weights are whole, and that no named module would be imported.

        Raises:
            UsageError: If they are not, or one would be.
        """
        if not (self.folder / WEIGHTS).exists():
            raise UsageError(
                f"{self.folder}: holds {ADAPTER} and no {WEIGHTS}; copy it there, or save the adapter as safetensors"
            )
        file_headers(self.folder / WEIGHTS)
        check_contained(self.folder)
        settings = json_object(self.folder / ADAPTER)
        for field, what in ELSEWHERE.items():
            if settings.get(field):
                raise UsageError(f"{self.folder / ADAPTER}: {field} names {what}; save the adapter without it")


def merge(base: Path, adapter: Path, folder: Path) -> None:
    """Merge an adapter into its base, and write the checkpoint with the adapter's tokenizer, or else the base's.

    Args:
        base: Checkpoint folder of the base.
        adapter: Adapter folder.
        folder: Empty folder.

    Raises:
        BenchError: If the adapter does not fit its base.
    """
    from peft import PeftConfig, get_peft_model

    from bench.models.opening import open_model, open_tokenizer, open_whole, save_model

    config = PeftConfig.from_pretrained(str(adapter))
    config.inference_mode = True
    if config.is_prompt_learning:
        raise BenchError(f"{config.peft_type.value} changes the prompt and not the weights, so it cannot be merged")
    # The stored dtype, not the configured one, so that nothing of the base is rounded.
    of_text = _is_of_text_model(base, adapter)
    model = get_peft_model((open_model if of_text else open_whole)(base, stored(base)), config)
    loaded = model.load_adapter(str(adapter), "default")
    missing, unexpected = sorted(loaded.missing_keys), sorted(loaded.unexpected_keys)
    if missing or unexpected:
        raise BenchError(
            f"it does not fit the base: {len(missing)} weights missing ({', '.join(missing[:3])}), "
            f"{len(unexpected)} unexpected ({', '.join(unexpected[:3])}); take the base that it was trained on"
        )
    if shared := sorted(_on_shared_weights(model)):
        raise BenchError(
            f"it adapts {shared[0]}, whose weights another layer uses too, so the merged model would not be "
            "the adapted one; train the adapter on other layers"
        )
    merged = model.merge_and_unload(safe_merge=True)
    if of_text:
        save_model(merged, folder)
    else:
        merged.save_pretrained(folder)
    has_tokenizer = (adapter / "tokenizer_config.json").exists()
    open_tokenizer(adapter if has_tokenizer else base).save_pretrained(folder)


def _is_of_text_model(base: Path, adapter: Path) -> bool:
    """Return whether all modules that an adapter names are those of the model that `open_model` gives.

    An adapter that was trained on a whole multimodal model may name its modules otherwise, or adapt its towers.
    """
    from bench.models.multimodal import is_multimodal, meta_model
    from bench.models.opening import open_config

    config = open_config(base)
    if not is_multimodal(config):
        return True
    layers = {name for name, module in meta_model(config).named_modules() if not any(module.children())}
    weights = (name.removeprefix(PREFIX).split(".") for name in file_headers(adapter / WEIGHTS))
    return all(any(".".join(parts[:end]) in layers for end in range(1, len(parts))) for parts in weights)


def _on_shared_weights(model: Any) -> set[str]:
    """Return the adapted layers whose own weights stand in several places, such as those of a tied embedding."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    places = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    return {
        name.removeprefix(PREFIX)
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
        and any(places[id(weights)] > 1 for weights in module.get_base_layer().parameters())
    }


def stored(folder: Path) -> str:
    """Return the dtype that a folder's weights are stored in."""
    from bench.models.headers import stored_dtype, weights_dtype

    return weights_dtype(folder) or stored_dtype(folder)


if __name__ == "__main__":
    try:
        merge(*map(Path, sys.argv[1:4]))
    except Exception as failure:
        sys.exit(sentence(str(failure)) or type(failure).__name__)
