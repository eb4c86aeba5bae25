# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Marian's vocabularies as tokenizers that `AutoTokenizer` loads where hf_attn is not installed.

Ids are Marian's; `<pad>`, which it does not have, comes behind them. A text ends in the end token and has none at its
start.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import MarianTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .files import read_bytes
from .spm import BYTE, CONTROL, UNKNOWN, UNUSED, USER_DEFINED, Piece, SentencePieceModel, parse_model
from .spm import with_pieces as spm_with_pieces


PAD_TOKEN = "<pad>"
YAML_ENDINGS = (".yml", ".yaml", ".json")
_WORD_SEPARATOR = "▁"
_FILLER = "<filler_{}>"
_BYTE_PATTERN = "0x[0-9A-F]{2}>"
# SentencePiece's score of a symbol that a user defined: it wins against any other way to write it.
_USER_DEFINED_SCORE = -0.1
# Words of a yaml vocabulary that stand for the end of a sentence and what is unknown, at their ids in Nematus' files.
_NEMATUS = {"</s>": ("eos", 0), "<unk>": ("UNK", 1)}
_MOST_WORDS = 10_000_000
_MOST_SPACES = 1000
_REBUILT = ("tokenizer_object", "tokenizer_file", "vocab_file", "name_or_path", "added_tokens_decoder", "backend")


@dataclass(frozen=True)
class Vocabulary:
    """
    A vocabulary file.

    Attributes:
        name: Of the file, without a `.gz`.
        content: Its bytes.
        model: What a SentencePiece model says; `None` for a list of words.
        words: Words by id of a list of words; an id may be free.
        eos_id, unk_id: Ids of the end of a sentence and of what is unknown.
        size: Ids there are.
    """

    name: str
    content: bytes
    model: SentencePieceModel | None
    words: dict[int, str]
    eos_id: int
    unk_id: int
    size: int


def read_vocabulary(path: str | Path) -> Vocabulary:
    """
    Reads a vocabulary: SentencePiece (`.spm`, `.model`), or words with their ids (`.yml`, `.yaml`, `.json`).

    Raises:
        ValueError: The file cannot be read, is of another kind, damaged or cut short, or asks for what tokenizers do
            not do, such as BPE.
    """
    path = Path(path)
    name = path.name.removesuffix(".gz")
    try:
        content = bytes(read_bytes(path))
        if name.endswith(YAML_ENDINGS):
            return _read_words(name, content)
        model = parse_model(content)
        _check_model(model)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"The vocabulary {str(path)!r} cannot be read: {error}.") from error
    return Vocabulary(name, content, model, {}, model.eos_id, model.unk_id, len(model.pieces))


def build_tokenizer(vocabulary: Vocabulary, num_rows: int, max_length: int) -> PreTrainedTokenizerFast:
    """
    A tokenizer that splits a text as SentencePiece does; or at its spaces, for a list of words.

    The special tokens are not read from text: a text that spells `</s>` is read as its characters, as in Marian; where
    none of them has a piece, as two unknown pieces in place of one. Marks that stand on a character of compatibility,
    such as a circled digit, may get lost in normalization.

    Args:
        vocabulary: Of source and target.
        num_rows: Rows of the embedding without `<pad>`, whose id this is.
        max_length: `model_max_length`, in tokens.

    Raises:
        ValueError: The vocabulary has another number of ids than the embedding.
    """
    check_size(vocabulary, num_rows)
    backend, pad_token = (_word_backend if vocabulary.model is None else _spm_backend)(vocabulary, num_rows)
    tokens = {"eos_token": backend.id_to_token(vocabulary.eos_id), "unk_token": backend.id_to_token(vocabulary.unk_id)}
    eos_token = tokens["eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos_token}",
        pair=f"$A {eos_token} $B {eos_token}",
        special_tokens=[(eos_token, vocabulary.eos_id)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
        pad_token=pad_token,
        **tokens,
    )


def build_tokenizer_of_two(
    source: Vocabulary, target: Vocabulary, num_rows: int, max_length: int
) -> PreTrainedTokenizerBase:
    """
    A `MarianTokenizer` of two SentencePiece vocabularies: it reads sources with one, and `text_target` and what was
    generated with the other. To load it takes the package sentencepiece.

    Args:
        source, target: The vocabularies. The smaller one is filled up, so that `<pad>` has one id.
        num_rows: Rows of the larger embedding, without `<pad>`.
        max_length: `model_max_length`, in tokens.

    Raises:
        ValueError: One is no SentencePiece model, or their end tokens differ.
        ImportError: sentencepiece is not installed.
    """
    named: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        files = {}
        for side, vocabulary in (("source", source), ("target", target)):
            if vocabulary.model is None:
                raise ValueError(
                    f"Two vocabularies must both be SentencePiece models, got {vocabulary.name!r} for the {side}."
                )
            pieces = vocabulary.model.pieces
            ids = {piece.text: token_id for token_id, piece in enumerate(pieces)}
            ids.update({_FILLER.format(token_id): token_id for token_id in range(vocabulary.size, num_rows)})
            files[f"{side}_spm"] = _write(directory, f"{side}.spm", vocabulary.content)
            files[side] = _write(directory, f"{side}.json", json.dumps({**ids, PAD_TOKEN: num_rows}).encode())
            named.append({"eos_token": pieces[vocabulary.eos_id].text, "unk_token": pieces[vocabulary.unk_id].text})
        if named[0] != named[1] or source.eos_id != target.eos_id:
            raise ValueError(f"Two vocabularies must have the same end and unknown tokens, got {named}.")
        return MarianTokenizer(
            source_spm=files["source_spm"],
            target_spm=files["target_spm"],
            vocab=files["source"],
            target_vocab_file=files["target"],
            separate_vocabs=True,
            model_max_length=max_length,
            pad_token=PAD_TOKEN,
            clean_up_tokenization_spaces=False,
            split_special_tokens=True,
            **named[0],
        )


def check_size(vocabulary: Vocabulary, num_rows: int) -> None:
    """
    Refuses a vocabulary that is not the one of an embedding.

    Raises:
        ValueError: The embedding has more or fewer rows; a list of words may leave ids free.
    """
    if vocabulary.size > num_rows or (vocabulary.model is not None and vocabulary.size < num_rows):
        raise ValueError(
            f"The vocabulary {vocabulary.name!r} has {vocabulary.size} tokens and the model's embedding {num_rows}: "
            "it belongs to another model."
        )


def with_tokens(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> PreTrainedTokenizerFast:
    """
    A tokenizer with tokens behind its own, pieces like the others: unlike those of `add_tokens`, they leave the text
    around them as it is, so that the extended SentencePiece model splits every text the same way.

    Args:
        tokenizer: Of `build_tokenizer`, from a SentencePiece model.
        tokens: New ones, as `extend_vocabulary` takes them.

    Raises:
        ValueError: The tokenizer has no such pieces, or tokens behind them; or a token is there already.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "Unigram" or len(tokenizer) != len(state["model"]["vocab"]):
        raise ValueError("`tokenizer` must be a unigram one whose tokens are all pieces of its model.")
    vocabulary = state["model"]["vocab"]
    known = {text for text, _ in vocabulary}
    for token in tokens:
        if not token or token in known:
            raise ValueError(f"`tokens` must be new and not empty, got {token!r}.")
        known.add(token)
        vocabulary.append([token, _USER_DEFINED_SCORE])
    kept = {name: value for name, value in tokenizer.init_kwargs.items() if name not in _REBUILT}
    return type(tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(state)), **kept)


def extend_vocabulary(vocabulary: Vocabulary, tokens: Sequence[str], multiple_of: int = 1) -> Vocabulary:
    """
    A vocabulary with tokens behind its own, and fillers behind these.

    A text that spells a new token is read as the token, as it is after `with_tokens`.

    Args:
        vocabulary: A SentencePiece model.
        tokens: New ones; a space before a word is `▁`.
        multiple_of: Of what the new size is a multiple; the engines of 8 bits ask for 8.

    Raises:
        ValueError: The vocabulary is a list of words; or a token is there already.
    """
    if vocabulary.model is None:
        raise ValueError(f"`vocabulary` must be a SentencePiece model to add tokens, got {vocabulary.name!r}.")
    size = vocabulary.size + len(tokens)
    fillers = [_FILLER.format(token_id) for token_id in range(size, size - size % -multiple_of)]
    pieces = [Piece(token, 0.0, USER_DEFINED) for token in tokens]
    pieces += [Piece(filler, 0.0, UNUSED) for filler in fillers]
    if not pieces:
        return vocabulary
    content = spm_with_pieces(vocabulary.content, pieces)
    model = parse_model(content)
    return Vocabulary(vocabulary.name, content, model, {}, model.eos_id, model.unk_id, len(model.pieces))


def _check_model(model: SentencePieceModel) -> None:
    asked = {
        f"the model type {model.model_type!r}, where only 'unigram' is known": model.model_type != "unigram",
        "no end of a sentence": model.eos_id < 0,
        "spaces behind words": model.treat_whitespace_as_suffix,
        "spaces that are not escaped": not model.escape_whitespaces,
        "spaces that are kept in number": not model.remove_extra_whitespaces,
    }
    faults = [name for name, is_asked in asked.items() if is_asked]
    if faults:
        raise ValueError(f"it has {', and '.join(faults)}")


def _read_words(name: str, content: bytes) -> Vocabulary:
    try:
        ids = yaml.load(content.decode("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is no yaml of words and ids: {error}") from error
    if not isinstance(ids, dict) or not all(type(token_id) is int for token_id in ids.values()):
        raise ValueError("it must map words to ids")
    words = {token_id: _word(word) for word, token_id in ids.items()}
    if len(words) != len(ids) or not words or not 0 <= min(words) <= max(words) < _MOST_WORDS:
        raise ValueError(f"its ids must differ, and be from 0 to {_MOST_WORDS - 1}")
    special = {}
    for token, (nematus_word, nematus_id) in _NEMATUS.items():
        if words.get(nematus_id) in ("", nematus_word):
            words[nematus_id] = token
        found = [token_id for token_id, word in words.items() if word == token]
        if not found:
            raise ValueError(f"it has no {token!r}")
        special[token] = found[0]
    return Vocabulary(name, content, None, words, special["</s>"], special["<unk>"], max(words) + 1)


def _word(word: Any) -> str:
    # Yaml takes a word such as `no` or `1` for another kind of value; the key's text is what counts.
    if isinstance(word, bool):
        raise ValueError(f"the word {word!r} must be in quotes")
    return "~" if word is None else str(word)


def _spm_backend(vocabulary: Vocabulary, num_rows: int) -> tuple[Tokenizer, str]:
    model = vocabulary.model
    if model is None:
        raise TypeError("`vocabulary` must hold a SentencePiece model.")
    entries = [
        (piece.text, _USER_DEFINED_SCORE if piece.type == USER_DEFINED else piece.score) for piece in model.pieces
    ]
    pad_token = _free(PAD_TOKEN, {text for text, _ in entries})
    backend = Tokenizer(models.Unigram([*entries, (pad_token, 0.0)], model.unk_id, model.byte_fallback))
    # A space at the start becomes the first word's own, where words have one.
    ends = r" \z" if model.add_dummy_prefix else r"\A | \z"
    steps: list[Any] = [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex(ends), "")]
    if model.precompiled_charsmap:
        steps.insert(0, normalizers.Precompiled(model.precompiled_charsmap))
    if "nfkc" in model.normalizer:
        # The library rewrites a character together with its marks, and loses the marks of one that it rewrites.
        steps.insert(0, normalizers.NFC())
    backend.normalizer = normalizers.Sequence(steps)
    hidden = [piece.text for piece in model.pieces if piece.type in (UNKNOWN, CONTROL, UNUSED)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_inside([*hidden, pad_token], model)), "isolated"),
            pre_tokenizers.Metaspace(
                _WORD_SEPARATOR, prepend_scheme="first" if model.add_dummy_prefix else "never", split=False
            ),
        ]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(_WORD_SEPARATOR, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", _MOST_SPACES, 0),
        ]
    )
    return backend, pad_token


def _inside(texts: list[str], model: SentencePieceModel) -> str:
    """A pattern of the places in a text where pieces are cut that a text must not be read as."""
    by_start: dict[str, list[str]] = {}
    for text in texts:
        by_start.setdefault(text[0], []).append(re.escape(text[1:]))
    if any(piece.type == BYTE for piece in model.pieces):
        by_start.setdefault("<", []).append(_BYTE_PATTERN)
    return "|".join(f"(?<={re.escape(start)})(?={'|'.join(rests)})" for start, rests in by_start.items())


def _word_backend(vocabulary: Vocabulary, num_rows: int) -> tuple[Tokenizer, str]:
    ids = {vocabulary.words.get(token_id, _FILLER.format(token_id)): token_id for token_id in range(num_rows)}
    pad_token = _free(PAD_TOKEN, ids)
    backend = Tokenizer(models.WordLevel({**ids, pad_token: num_rows}, vocabulary.words[vocabulary.unk_id]))
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    return backend, pad_token


def _free(token: str, taken: Any) -> str:
    while token in taken:
        token = f"{token[:-1]}_>"
    return token


def _write(directory: str, name: str, content: bytes) -> str:
    path = Path(directory) / name
    path.write_bytes(content)
    return str(path)
