"""Tokenizer side of an engine, on folders that hold a tokenizer and a configuration only."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bench.engines.interface import Sampling
from bench.engines.tokenizer import CheckpointTokenizer, _without_end
from tasks.code.answer import WholeProgram
from tasks.thoughts import answer_of

SAMPLING, SAMPLING_LONG = Sampling(max_new_tokens=100), Sampling(max_new_tokens=1000)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL = [{"role": "user", "content": "3 + 4?"}]


def folder(
    path: Path,
    template: str | None,
    *,
    special: list[str],
    plain: tuple[str, ...] = (),
    appends_eos: bool = False,
    begins: bool = False,
) -> str:
    """Write a tokenizer of single bytes, whose end of sequence is `<eos>`, and return the folder."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens(list(plain))
    if appends_eos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A <eos>" if begins else "$A <eos>",
            special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<bos>", "<eos>")],
        )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": tokenizer.eos_token_id}))
    return str(path)


def opened(*arguments, **options) -> CheckpointTokenizer:
    return CheckpointTokenizer(folder(*arguments, **options), "cpu")


def ids(tokenizer: CheckpointTokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text))


class TestEndOfTurn:
    """A folder whose template ends turns with a token that its end of sequence is not, as Qwen2.5's base."""

    @pytest.mark.parametrize("kind", ["special", "plain"])
    def test_the_token_that_ends_turns_ends_an_answer(self, tmp_path: Path, kind: str) -> None:
        special = ["<|im_start|>", *(["<|im_end|>"] if kind == "special" else [])]
        tokenizer = opened(tmp_path, CHATML, special=special, plain=("<|im_end|>",))
        answer = ids(tokenizer, "It is 7.")
        for end in ("<|im_end|>", "<eos>"):
            assert tokenizer.ending([*answer, *ids(tokenizer, end)], SAMPLING) == "end"
            assert tokenizer.text([*answer, *ids(tokenizer, end)], SAMPLING) == "It is 7."
        for other in ("<|im_start|>", "."):
            assert tokenizer.ending([*answer, *ids(tokenizer, other)], SAMPLING) is None

    @pytest.mark.parametrize(
        "template",
        [
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "{{ raise_exception('two turns') if messages|length == 2 else messages[0].content }}",
            "{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}",
        ],
        ids=["no token", "nothing", "a conversation it refuses", "no turn of the assistant"],
    )
    def test_a_template_without_such_a_token_adds_none(self, tmp_path: Path, template: str) -> None:
        tokenizer = opened(tmp_path, template, special=["<|im_end|>"])
        assert tokenizer.ending(ids(tokenizer, "<|im_end|>"), SAMPLING) is None
        assert tokenizer.ending(ids(tokenizer, "<eos>"), SAMPLING) == "end"

    def test_the_end_of_a_message_in_the_harmony_format_ends_no_answer(self, tmp_path: Path) -> None:
        template = (
            "{% for m in messages %}<|start|>{{ m.role }}<|channel|>final<|message|>{{ m.content }}"
            "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
        )
        special = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]
        tokenizer = opened(tmp_path, template, special=special)
        thought = ids(tokenizer, "<|channel|>analysis<|message|>5?<|end|>")
        assert tokenizer.ending(thought, SAMPLING) is None
        reply = [*thought, *ids(tokenizer, "<|start|>assistant<|channel|>final<|message|>It is 7.<|return|>")]
        assert tokenizer.ending(reply, SAMPLING) == "end"
        assert answer_of(tokenizer.text(reply, SAMPLING)) == "It is 7."
        assert answer_of(tokenizer.text(thought, SAMPLING)) is None


class TestCompletionPrompts:
    def test_they_never_end_with_an_end_of_sequence_that_the_tokenizer_appended(self, tmp_path: Path) -> None:
        tokenizer = opened(tmp_path, None, special=["<bos>"], appends_eos=True)
        assert tokenizer.text(tokenizer.encode("2 + 2 ="), SAMPLING) == "2 + 2 ="
        assert tokenizer.ending(tokenizer.encode("2 + 2 ="), SAMPLING) is None

    def test_one_that_the_prompt_itself_ends_with_stays(self, tmp_path: Path) -> None:
        tokenizer = opened(tmp_path, None, special=["<bos>"], appends_eos=True)
        once = tokenizer.encode("2 + 2 =<eos>")
        assert len(once) == 8
        assert tokenizer.ending(once, SAMPLING) == "end"

    @pytest.mark.parametrize("begins", [False, True])
    def test_a_trainer_encodes_them_in_the_same_way(self, tmp_path: Path, begins: bool) -> None:
        path = folder(tmp_path, None, special=["<bos>"], appends_eos=True, begins=begins)
        trained = _without_end(AutoTokenizer.from_pretrained(path))
        for text in ("2 + 2 =", "2 + 2 =<eos>", "", "é"):
            assert tuple(trained(text)["input_ids"]) == CheckpointTokenizer(path, "cpu").encode(text)
        assert len(trained("2 + 2 =")["input_ids"]) == 7 + begins


STUB = "def double(x):\n    ..."
PROGRAM = "def double(x):\n    return 2 * x"
RULE = WholeProgram("double", 'def double(x):\n    """Twice x."""\n')


class TestCodeBlocks:
    """Where an answer to a code task ends."""

    @pytest.mark.parametrize(
        "before",
        [
            "",
            "Sure:\n\n",
            f"The signature is\n```python\n{STUB}\n```\n\nand the solution:\n\n",
            "First\n\n```bash\npip install numpy\n```\n\nThen\n\n",
            f"<think>\n```python\n{PROGRAM}\n```\n\nGood.\n</think>\n\n",
        ],
        ids=["nothing", "words", "a stub", "a shell command", "a thought"],
    )
    def test_it_ends_behind_the_block_that_is_scored_and_not_behind_one_before_it(
        self, tmp_path: Path, before: str
    ) -> None:
        tokenizer = opened(tmp_path, CHATML, special=["<|im_start|>", "<|im_end|>"])
        reply = f"{before}```python\n{PROGRAM}\n```\n"
        tokens = ids(tokenizer, f"{reply}It doubles.\n\n```python\nprint(double(1))\n```\n")
        ends = [n for n in range(1, len(tokens) + 1) if tokenizer.ending(tokens[:n], SAMPLING_LONG, RULE)]
        assert tokenizer.ending(tokens[: ends[0]], SAMPLING_LONG, RULE) == "stop"
        assert tokenizer.text(tokens[: ends[0]], SAMPLING_LONG) == reply

    def test_an_answer_without_such_a_block_goes_on(self, tmp_path: Path) -> None:
        tokenizer = opened(tmp_path, CHATML, special=["<|im_start|>", "<|im_end|>"])
        tokens = ids(tokenizer, f"```python\n{STUB}\n```\n\n```\nTrue\n```\n\n{PROGRAM}\n")
        assert all(tokenizer.ending(tokens[:n], SAMPLING_LONG, RULE) is None for n in range(1, len(tokens) + 1))


class TestThoughts:
    def test_the_text_begins_with_the_delimiter_that_the_template_wrote(self, tmp_path: Path) -> None:
        template = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
        tokenizer = opened(tmp_path, template, special=["<|im_start|>", "<|im_end|>"])
        assert tokenizer.text(ids(tokenizer, "The answer is 5?"), SAMPLING) == "<think>\nThe answer is 5?"
        assert answer_of(tokenizer.text(ids(tokenizer, "5?</think>\n7"), SAMPLING)) == "7"
        assert answer_of(tokenizer.text(ids(tokenizer, "The answer is 5?"), SAMPLING)) is None

    def test_delimiters_that_are_special_tokens_stay_in_the_text(self, tmp_path: Path) -> None:
        template = "[SYSTEM]Think between [THINK] and [/THINK].[INST]{{ messages[0].content }}[/INST]"
        tokenizer = opened(tmp_path, template, special=["[THINK]", "[/THINK]", "[INST]"])
        reply = ids(tokenizer, "[THINK]5?[/THINK]It is 7.[INST]<eos>")
        assert tokenizer.text(reply, SAMPLING) == "[THINK]5?[/THINK]It is 7."

    def test_other_templates_leave_them_out_as_all_special_tokens(self, tmp_path: Path) -> None:
        tokenizer = opened(tmp_path, CHATML, special=["<|im_start|>", "<|im_end|>", "[THINK]", "<|end|>"])
        assert tokenizer.text(ids(tokenizer, "[THINK]It is 7.<|end|>"), SAMPLING) == "It is 7."
