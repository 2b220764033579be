"""The tokenizer: one word, one token; it lower-cases, and words it does not know are `<unk>`."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tiny_shapes.architecture import TEXT_TOKENS
from tiny_shapes.prompts import BACKGROUNDS, COLOURS, DIRECTIONS, OBJECTS

SPECIAL = ("<pad>", "</s>", "<unk>")


def vocabulary() -> list[str]:
    """All tokens in the order of their ids."""
    words = ("a", *COLOURS, *OBJECTS, "moving", *DIRECTIONS, "on", *BACKGROUNDS, "background")
    return [*SPECIAL, *words]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the words of the grammar, with `</s>` after every prompt as T5 has it."""
    ids = {word: at for at, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", ids["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=TEXT_TOKENS,
        padding_side="right",
    )
