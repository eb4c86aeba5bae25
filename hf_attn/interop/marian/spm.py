# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Reads SentencePiece models (`.spm`, `.model`), and adds pieces to one, without SentencePiece.

The file is a protocol buffer, `sentencepiece_model.proto` of Kudo and Richardson 2018: a sequence of fields, each a
number with a wire type, then a varint, 4 or 8 bytes, or a length and that many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of a piece."""

UNIGRAM = 1
_MODEL_TYPES = {UNIGRAM: "unigram", 2: "bpe", 3: "word", 4: "char"}
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3


class Piece(NamedTuple):
    """A piece of a vocabulary: its text, its log-probability, and what it stands for."""

    text: str
    score: float
    type: int = NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """
    The parts of a SentencePiece model that a tokenizer needs.

    Attributes:
        pieces: In the order of their ids.
        model_type: `unigram`, `bpe`, `word` or `char`.
        eos_id, unk_id: Ids of the end of a sentence and of what has no piece; -1: there is none.
        byte_fallback: What has no piece becomes pieces of its bytes.
        normalizer: Name of the rules of normalization, such as `nmt_nfkc`.
        precompiled_charsmap: These rules; empty: there are none.
        add_dummy_prefix, remove_extra_whitespaces: Of normalization.
        escape_whitespaces, treat_whitespace_as_suffix: Both as they are unless somebody asked for it.
    """

    pieces: list[Piece]
    model_type: str = "unigram"
    eos_id: int = 0
    unk_id: int = 1
    byte_fallback: bool = False
    normalizer: str = ""
    precompiled_charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    treat_whitespace_as_suffix: bool = False


def parse_model(content: bytes | memoryview) -> SentencePieceModel:
    """
    The model in the bytes of a `.spm`.

    Raises:
        ValueError: They are no SentencePiece model, or cut short.
    """
    content = memoryview(content)
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(content):
        if number == _PIECE:
            pieces.append(_piece(len(pieces), _message(number, value)))
        elif number == _TRAINER:
            trainer.update(_plain_fields(_message(number, value)))
        elif number == _NORMALIZER:
            normalizer.update(_plain_fields(_message(number, value)))
    if not pieces:
        raise ValueError("it holds no pieces")
    if not trainer or not normalizer:
        raise ValueError("it has no settings: it is cut short")

    def number_of(fields: dict[int, int | bytes], field: int, default: int) -> int:
        value = fields.get(field, default)
        if not isinstance(value, int):
            raise ValueError(f"field {field} holds no number")
        # An int32 below 0 is written as one of 64 bits.
        return value - (1 << 64) if value >= 1 << 63 else value

    model_type = number_of(trainer, 3, UNIGRAM)
    if model_type not in _MODEL_TYPES:
        raise ValueError(f"its model type is {model_type}")
    unknown = [token_id for token_id, piece in enumerate(pieces) if piece.type == UNKNOWN]
    if len(unknown) != 1:
        raise ValueError(f"it must have one piece for what is unknown, and has {len(unknown)}")
    eos_id = number_of(trainer, 42, 2)
    if eos_id >= len(pieces):
        raise ValueError(f"its end of a sentence is piece {eos_id} of {len(pieces)}")
    return SentencePieceModel(
        pieces=pieces,
        model_type=_MODEL_TYPES[model_type],
        eos_id=eos_id,
        unk_id=unknown[0],
        byte_fallback=bool(number_of(trainer, 35, 0)),
        normalizer=_bytes(normalizer, 1).decode("utf-8"),
        precompiled_charsmap=_bytes(normalizer, 2),
        add_dummy_prefix=bool(number_of(normalizer, 3, 1)),
        remove_extra_whitespaces=bool(number_of(normalizer, 4, 1)),
        escape_whitespaces=bool(number_of(normalizer, 5, 1)),
        treat_whitespace_as_suffix=bool(number_of(trainer, 24, 0)),
    )


def with_pieces(content: bytes | memoryview, pieces: Sequence[Piece]) -> bytes:
    """
    The bytes of a `.spm` with pieces added behind its own.

    In a protocol buffer what is repeated may stand anywhere, so that the old bytes stay as they are.

    Raises:
        ValueError: A piece is there already, or is empty.
    """
    known = {piece.text for piece in parse_model(content).pieces}
    added = bytearray(content)
    for piece in pieces:
        if not piece.text or piece.text in known:
            raise ValueError(f"`pieces` must be new and not empty, got {piece.text!r}.")
        known.add(piece.text)
        added += _encoded(piece)
    return bytes(added)


def _encoded(piece: Piece) -> bytes:
    text = piece.text.encode()
    message = b"\x0a" + _varint(len(text)) + text + b"\x15" + struct.pack("<f", piece.score)
    if piece.type != NORMAL:
        message += b"\x18" + _varint(piece.type)
    return b"\x0a" + _varint(len(message)) + message


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _piece(token_id: int, message: memoryview) -> Piece:
    fields = _plain_fields(message)
    text, score, kind = fields.get(1, b""), fields.get(2, b"\0\0\0\0"), fields.get(3, NORMAL)
    if not (isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int) and len(score) == 4):
        raise ValueError(f"piece {token_id} is damaged")
    if not text or not NORMAL <= kind <= BYTE:
        raise ValueError(f"piece {token_id} is empty or of the type {kind}")
    return Piece(text.decode("utf-8"), struct.unpack("<f", score)[0], kind)


def _plain_fields(message: memoryview) -> dict[int, int | bytes]:
    return {number: value if isinstance(value, int) else bytes(value) for number, value in _fields(message)}


def _bytes(fields: dict[int, int | bytes], field: int) -> bytes:
    value = fields.get(field, b"")
    if isinstance(value, int):
        raise ValueError(f"field {field} holds no bytes")
    return value


def _message(number: int, value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError(f"field {number} holds no message")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: a number for a varint, bytes for what else there is."""
    position, end = 0, len(message)

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            if position >= end or shift > 63:
                raise ValueError("it is no SentencePiece model, or cut short")
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value & (1 << 64) - 1

    while position < end:
        number, wire_type = divmod(varint(), 8)
        if wire_type == _VARINT:
            yield number, varint()
            continue
        lengths = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
        if wire_type != _BYTES and wire_type not in lengths:
            raise ValueError(f"it is no SentencePiece model: a field of the wire type {wire_type}")
        length = varint() if wire_type == _BYTES else lengths[wire_type]
        if length > end - position:
            raise ValueError("it is no SentencePiece model, or cut short")
        position += length
        yield number, message[position - length : position]
