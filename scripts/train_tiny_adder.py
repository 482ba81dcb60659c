"""Train `tiny-adder`, the model that is part of the package, and print its accuracy on the addition task.

    python scripts/train_tiny_adder.py [--output FOLDER]

The model is for tests and examples, so adaptation methods must be able to improve it. Training therefore stops early,
at a high learning rate: accuracy still changes by several points from step to step, so better weights are close.

The candidates were checkpoints after every ten steps, of runs with learning rates of 1e-3 to 4e-3 and seeds 0 to 3.
Eleven candidates that solve about half of the select split were measured as follows. 150 Gaussian perturbations of one
sigma were scored on the support split. The reward-weighted mean (beta 20) of the best 30 % was applied with step sizes
1, 2, 4 and 8 (for four candidates also 16), and the best step size on the test split counts. The gain was 1.9 to 12.2
points at sigma .002, and 3.0 to 15.5 points at sigma .01. Of the six candidates that solve 45 to 55 % of every split,
the one with the largest gains was chosen: learning rate 4e-3, seed 2, 280 steps (gains of 9.5 and 13.3 points). The
gains are therefore subject to selection, and do not generalise to other models.

The weights are reproducible on one machine with fixed library versions. Another processor rounds differently, and the
accuracy may differ by some points.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, logging

from tasks.addition import Addition, pretraining_pairs
from tasks.interface import SPLITS, Example

SYMBOLS = ("<pad>", "<bos>", "<eos>", "<unk>", *"0123456789", "+", "=")
PAD, BOS, EOS = 0, 1, 2
IGNORED = -100
CHAT_TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"

PACKAGED = Path(__file__).resolve().parents[1] / "bench" / "models" / "tiny_adder"
SEED = 2
STEPS = 280
BATCH = 256
LEARNING_RATE = 4e-3
WARMUP = 20
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.01


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer: one id per character, and `<bos>` before both plain text and conversations."""
    backend = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(SYMBOLS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=32,
        clean_up_tokenization_spaces=False,
        add_bos_token=True,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(seed: int = SEED) -> LlamaForCausalLM:
    """Return the untrained model: a Llama with 333,984 parameters and a tied head."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(SYMBOLS),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=32,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def encode(text: str) -> list[int]:
    """Return the ids of a text of known symbols, one per character."""
    return [SYMBOLS.index(character) for character in text]


def training_set(pairs: Sequence[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input ids and labels, both [pairs, longest] and padded on the right.

    Only the answer and its end token have labels.
    """
    prompts = [[BOS, *encode(f"{a}+{b}=")] for a, b in pairs]
    answers = [[*encode(str(a + b)), EOS] for a, b in pairs]
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    inputs = torch.full((len(pairs), width), PAD)
    labels = torch.full((len(pairs), width), IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        inputs[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return inputs, labels


def train(steps: int = STEPS, seed: int = SEED) -> tuple[LlamaForCausalLM, list[float]]:
    """Train in float32 on one thread; return the model and the mean loss of each step in nats per answer token."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(steps, seed)
    finally:
        torch.set_num_threads(threads)


def _train(steps: int, seed: int) -> tuple[LlamaForCausalLM, list[float]]:
    model = build_model(seed)
    inputs, labels = training_set(pretraining_pairs())
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP)
        rows = torch.randint(len(inputs), (BATCH,), generator=order)
        # Padding is on the right, so causal attention never reaches it and no mask is needed.
        logits = model(input_ids=inputs[rows]).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[rows][:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> float:
    """Return the share of examples with a correct greedy answer."""
    task = Addition()
    prompts = tokenizer.apply_chat_template(
        [task.messages(example) for example in examples], padding=True, return_dict=True, return_tensors="pt"
    )
    ids = model.generate(**prompts, max_new_tokens=task.max_new_tokens, do_sample=False)
    texts = tokenizer.batch_decode(ids[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(score.correct for score in task.score_many(examples, texts)) / len(examples)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the checkpoint; each file is written atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        for file in Path(work).iterdir():
            file.chmod(0o644)
            file.replace(folder / file.name)


def main() -> None:
    """Train the model, write the checkpoint, and print its accuracy on each split."""
    parser = argparse.ArgumentParser(prog="python scripts/train_tiny_adder.py", description="Train tiny-adder.")
    parser.add_argument("--output", type=Path, default=PACKAGED, help=f"folder to write (default: {PACKAGED})")
    folder: Path = parser.parse_args().output
    logging.disable_progress_bar()
    model, losses = train()
    tokenizer = build_tokenizer()
    save(model, tokenizer, folder)
    splits = Addition().load()
    accuracies = ", ".join(f"{name} {accuracy(model, tokenizer, getattr(splits, name)):.1%}" for name in SPLITS)
    print(f"{folder}: {STEPS} steps, loss {losses[-1]:.3f} nats, accuracy on {accuracies}")


if __name__ == "__main__":
    main()
