# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Trains a byte-level BPE or Unigram tokenizer whose special tokens have the ids of the default `HfAttnConfig`."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ..text.unicode_text import is_text


SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
"""Special tokens in the order of their ids, 0 to 4."""

# The trainer takes memory for all of them before it reads a text.
_MOST_TOKENS = 1_000_000
# Finer digits of a Unigram score depend on the order in which threads add; coarser ones would make ties.
_UNIGRAM_SCORE_DECIMALS = 4
_UNIGRAM_BYTE_STEP = 1e-4


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    model: Literal["bpe", "unigram"] = "bpe",
    *,
    model_max_length: int = 1024,
    min_frequency: int = 2,
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer on `texts`; `AutoTokenizer.from_pretrained` loads what its `save_pretrained` writes.

    Both models work on the bytes of the UTF-8 text, cut into words by the regular expression of GPT-2 (Radford et al.
    2019, section 2.2): no text has an unknown piece, nothing is normalised, and
    `decode(encode(text), skip_special_tokens=True) == text` for every text. BPE is Sennrich et al. 2016, Unigram is
    Kudo 2018. The result depends on the counts of words in `texts` alone, not on their order; in a Unigram of a tiny
    corpus, which of several equally likely pieces stay may still differ from run to run.

    Sources and targets (`text_target=`) end in `</s>` and have no `<s>`: the decoder starts from `</s>`, as in BART
    and Marian. A pair becomes `first </s> second </s>`. A text that spells a special token, such as the characters
    "</s>", is read as ordinary text, never as the token (`split_special_tokens=True`); to have it read as the token,
    pass `split_special_tokens=False` to the call.

    Args:
        texts: The texts to train on. Read once.
        vocab_size: Number of tokens at most, the five special ones and the 256 bytes included. A small corpus may
            yield fewer: size embeddings by `len(tokenizer)`.
        model: `"bpe"` or `"unigram"`.
        model_max_length: Length in tokens from which on the tokenizer warns, and to which `truncation=True` cuts.
        min_frequency: Times a pair must occur for BPE to merge it. Unigram has no such limit.
        show_progress: Draw progress bars on the terminal.

    Raises:
        ValueError: `model` is unknown, `vocab_size` leaves no room beside bytes and special tokens or is above a
            million, no text has a character, or one has a lone surrogate.
        TypeError: A text is no string.
    """
    if model not in _BACKENDS:
        raise ValueError(f"`model` must be one of {', '.join(map(repr, _BACKENDS))}, got {model!r}")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    smallest = len(SPECIAL_TOKENS) + len(alphabet)
    if vocab_size <= smallest:
        raise ValueError(
            f"`vocab_size` must be greater than {smallest} ({len(SPECIAL_TOKENS)} special tokens and {len(alphabet)} "
            f"bytes), got {vocab_size}"
        )
    if vocab_size > _MOST_TOKENS:
        raise ValueError(f"`vocab_size` must be at most {_MOST_TOKENS}, got {vocab_size}")
    backend = _BACKENDS[model](_with_content(texts), vocab_size, alphabet, min_frequency, show_progress)
    backend.decoder = decoders.ByteLevel()
    eos_token = SPECIAL_TOKENS["eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos_token}",
        pair=f"$A {eos_token} $B {eos_token}",
        special_tokens=[(eos_token, backend.token_to_id(eos_token))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
        **SPECIAL_TOKENS,
    )


def _with_content(texts: Iterable[str]) -> Iterator[str]:
    if isinstance(texts, str):
        raise TypeError("`texts` must be an iterable of strings, got one string: put it in a list")
    is_empty = True
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"`texts` must hold strings, got {type(text).__name__}: {text!r}")
        if not is_text(text):
            raise ValueError(f"`texts` must hold text that UTF-8 can write, got {text!r}")
        is_empty = is_empty and not text
        yield text
    if is_empty:
        raise ValueError("`texts` must hold at least one text that is not empty")


def _byte_level() -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _train_bpe(
    texts: Iterator[str], vocab_size: int, alphabet: list[str], min_frequency: int, show_progress: bool
) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = _byte_level()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        special_tokens=list(SPECIAL_TOKENS.values()),
        show_progress=show_progress,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _train_unigram(
    texts: Iterator[str], vocab_size: int, alphabet: list[str], min_frequency: int, show_progress: bool
) -> Tokenizer:
    special_tokens = list(SPECIAL_TOKENS.values())
    draft = Tokenizer(models.Unigram())
    draft.pre_tokenizer = _byte_level()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        special_tokens=special_tokens,
        unk_token=SPECIAL_TOKENS["unk_token"],
        show_progress=show_progress,
    )
    draft.train_from_iterator(texts, trainer)
    vocabulary = json.loads(draft.to_str())["model"]["vocab"]
    learned = [(piece, score) for piece, score in vocabulary if piece not in special_tokens]
    # The trainer puts bytes that it has not learned last, _UNIGRAM_BYTE_STEP apart, in an order that varies.
    floor = min(score for _, score in learned) + _UNIGRAM_BYTE_STEP * len(alphabet)
    pieces = [
        (piece, round(max(score, floor) if len(piece) == 1 else score, _UNIGRAM_SCORE_DECIMALS))
        for piece, score in learned
    ]
    pieces.sort(key=lambda entry: (-entry[1], entry[0]))
    vocabulary = [(token, 0.0) for token in special_tokens] + pieces
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=special_tokens.index(SPECIAL_TOKENS["unk_token"])))
    backend.pre_tokenizer = _byte_level()
    backend.add_special_tokens(special_tokens)
    return backend


_BACKENDS: dict[str, Callable[..., Tokenizer]] = {"bpe": _train_bpe, "unigram": _train_unigram}
