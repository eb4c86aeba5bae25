# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""SentencePiece models, read without SentencePiece."""

import numpy as np
import pytest
import sentencepiece

from hf_attn.interop.marian.spm import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Piece, parse_model, with_pieces
from tests.interop.marian.examples import spm_bytes


def test_a_model_says_what_sentencepiece_says_of_it():
    content = spm_bytes(user_defined_symbols="__source__")
    model, processor = parse_model(content), sentencepiece.SentencePieceProcessor(model_proto=content)
    assert len(model.pieces) == processor.get_piece_size() == 320
    for token_id, piece in enumerate(model.pieces):
        assert piece.text == processor.id_to_piece(token_id)
        assert piece.score == pytest.approx(processor.get_score(token_id))
        assert (piece.type == BYTE) == processor.is_byte(token_id)
        assert (piece.type == CONTROL) == processor.is_control(token_id)
        assert (piece.type == UNKNOWN) == processor.is_unknown(token_id)
    assert (model.eos_id, model.unk_id, model.model_type, model.byte_fallback) == (0, 1, "unigram", True)
    assert (model.add_dummy_prefix, model.remove_extra_whitespaces, model.escape_whitespaces) == (True, True, True)
    assert len(model.precompiled_charsmap) > 100_000
    assert [piece.text for piece in model.pieces if piece.type == USER_DEFINED] == ["__source__"]


def test_settings_are_read():
    model = parse_model(
        spm_bytes(normalization_rule_name="identity", add_dummy_prefix=False, byte_fallback=False, eos_id=-1, size=72)
    )
    assert (model.precompiled_charsmap, model.add_dummy_prefix, model.byte_fallback) == (b"", False, False)
    assert model.eos_id == -1
    model = parse_model(spm_bytes(model_type="bpe", treat_whitespace_as_suffix=True, remove_extra_whitespaces=False))
    assert model.model_type == "bpe" and model.treat_whitespace_as_suffix and not model.remove_extra_whitespaces


def test_pieces_are_added_behind_the_known_ones():
    content = with_pieces(spm_bytes(), [Piece("€€", -0.5), Piece("⟦x⟧", 0.0, USER_DEFINED)])
    assert content.startswith(spm_bytes())
    model, processor = parse_model(content), sentencepiece.SentencePieceProcessor(model_proto=content)
    assert model.pieces[320:] == [Piece("€€", -0.5, NORMAL), Piece("⟦x⟧", 0.0, USER_DEFINED)]
    assert processor.get_piece_size() == 322
    assert 321 in processor.encode("a ⟦x⟧ b") and 320 in processor.encode("€€")
    for text in ("", "<unk>", model.pieces[300].text):
        with pytest.raises(ValueError, match=f"`pieces` must be new and not empty, got {text!r}"):
            with_pieces(content, [Piece(text, 0.0)])


# A model type, and a dummy prefix.
SETTINGS = b"\x12\x02\x18\x01\x1a\x02\x18\x01"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no pieces"),
        (b"\x0a\xff\xff\xff\xff\x0f", "or cut short"),
        (b"\x0b", "a field of the wire type 3"),
        (b"\x08\x01", "field 1 holds no message"),
        (b"\xff" * 20, "or cut short"),
        (b"\x0a\x02\x0a\x00", "piece 0 is empty or of the type 1"),
        (b"\x0a\x05\x0a\x01a\x18\x09", "piece 0 is empty or of the type 9"),
        (b"\x0a\x05\x0a\x01a\x18\x02" + b"\x12\x02\x18\x01", "it has no settings: it is cut short"),
        (b"\x0a\x03\x0a\x01a" + SETTINGS, "must have one piece for what is unknown, and has 0"),
        (b"\x0a\x05\x0a\x01a\x18\x02" + SETTINGS + b"\x12\x02\x18\x07", "its model type is 7"),
        (b"\x0a\x05\x0a\x01a\x18\x02" + SETTINGS + b"\x12\x03\xd0\x02\x05", "its end of a sentence is piece 5 of 1"),
        (b"\x0a\x05\x0a\x01a\x10\x02", "piece 0 is damaged"),
    ],
)
def test_what_is_no_model_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse_model(content)


def test_a_model_with_any_bytes_changed_is_read_or_refused():
    content, generator, num_refused = spm_bytes(), np.random.default_rng(0), 0
    for _ in range(100):
        damaged = bytearray(content)
        for place in generator.integers(0, 5000, 3) * generator.choice([1, -1]):
            damaged[place] = generator.integers(256)
        try:
            parse_model(damaged)
        except ValueError:
            num_refused += 1
    assert num_refused > 30
    for length in range(0, len(content), 997):
        with pytest.raises(ValueError, match=r"cut short|no pieces"):
            parse_model(content[:length])
