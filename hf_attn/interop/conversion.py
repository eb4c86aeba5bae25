# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models of other classes become hf_attn's, with the same tensors: nothing is copied that has the same layout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..configuration_hf_attn import HfAttnConfig
from ..configuration_mechanisms import POSITION_EMBEDDING_TYPES
from ..modeling_hf_attn import HfAttnForConditionalGeneration, HfAttnForQuestionAnswering
from ..modeling_layers import resolve_class
from ..modeling_positions import SinusoidalPositions
from .families import FAMILIES, REFUSED, Family


logger = logging.get_logger(__name__)


def family_of(config: PreTrainedConfig) -> Family:
    """The record of a config's family.

    Raises:
        ValueError: There is none, or the family cannot be held, or this config of it cannot.
    """
    kind = config.model_type
    if kind in REFUSED:
        raise ValueError(f"`SOURCE` is a {kind!r} model, which cannot be imported: {REFUSED[kind]}.")
    if kind not in FAMILIES:
        raise ValueError(
            f"`SOURCE` is a {kind!r} model. Those that can be imported: {', '.join(sorted(FAMILIES))}, and files of "
            "Marian and Firefox Translations."
        )
    reason = FAMILIES[kind].refuses(config)
    if reason is not None:
        raise ValueError(f"`SOURCE` is a {kind!r} model that cannot be imported: {reason}.")
    return FAMILIES[kind]


def convert(source: PreTrainedModel) -> PreTrainedModel:
    """
    An hf_attn model with the weights of `source`, which it shares wherever their layout is the same.

    Args:
        source: A model of transformers with a language modeling head, or a `BartForQuestionAnswering`.

    Returns:
        The model, in evaluation mode, with the generation config of `source`.

    Raises:
        ValueError: The family, a field or a weight of it cannot be held.
    """
    config: Any = source.config
    family = family_of(config)
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in source.state_dict().items():
        here = family.name_here(name)
        if here is not None:
            weights[here] = tensor
    fields = {**family.config_fields(config), **_token_ids(source), **_embeddings(weights)}
    fields["logits_bias"] = _move_bias(weights)
    for stack in ("encoder", "decoder"):
        _move_positions(weights, stack, family, fields)
    target_class: Any = HfAttnForConditionalGeneration
    if "qa_outputs.weight" in weights:
        target_class = HfAttnForQuestionAnswering
        # The heads here read the decoder's and the encoder's states beside each other.
        weight = weights["qa_outputs.weight"]
        weights["qa_outputs.weight"] = torch.cat([weight, torch.zeros_like(weight)], dim=1)
    target = from_weights(target_class, HfAttnConfig(**fields), weights, source.dtype)
    if source.can_generate():
        target.generation_config = source.generation_config
    return target


@contextmanager
def without_load_report() -> Iterator[None]:
    """A context in which transformers does not list weights that it made itself; what is missing is raised here."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def from_weights(
    model_class: Any, config: HfAttnConfig, weights: dict[str, torch.Tensor], dtype: torch.dtype
) -> PreTrainedModel:
    """
    A model in evaluation mode that has these very tensors.

    Raises:
        ValueError: They are not all that the model has, or more.
    """
    with without_load_report():
        model, loading = model_class.from_pretrained(
            None, config=config, state_dict=weights, dtype=dtype, output_loading_info=True
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[kind]:
            raise ValueError(
                f"The weights of `SOURCE` are not those of its config: {kind} are {sorted(loading[kind])}."
            )
    return model.eval()


def _token_ids(source: PreTrainedModel) -> dict[str, Any]:
    """The special tokens: of the config, or where it has none of the generation config."""
    config, generation_config = source.config, getattr(source, "generation_config", None)
    ids: dict[str, Any] = {}
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        ids[name] = getattr(config, name, None)
        if ids[name] is None:
            ids[name] = getattr(generation_config, name, None)
    end = ids["eos_token_id"][0] if isinstance(ids["eos_token_id"], list) else ids["eos_token_id"]
    for name in ("pad_token_id", "decoder_start_token_id"):
        if ids[name] is None:
            if end is None:
                raise ValueError(f"`SOURCE` has neither `{name}` nor `eos_token_id`: set one in its config.json.")
            logger.warning(f"`SOURCE` has no `{name}`: `eos_token_id` = {end} is taken for it.")
            ids[name] = end
    return ids


def _embeddings(weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """
    Fields that say which of the three tables are one, as the tensors do. Configs are not believed: transformers writes
    `tie_word_embeddings` as true for all of T5's kin, and unties them by the files. Drops tables that are no other.
    """
    head = weights.get("lm_head.weight")
    encoder, decoder = (weights[f"model.{stack}.embed_tokens.weight"] for stack in ("encoder", "decoder"))
    shares = _are_one(encoder, decoder)
    if shares:
        weights["model.shared.weight"] = encoder
    else:
        weights.pop("model.shared.weight", None)
    fields: dict[str, Any] = {
        "vocab_size": len(encoder),
        "tie_word_embeddings": head is None or _are_one(head, decoder),
        "share_encoder_decoder_embeddings": shares,
    }
    if shares:
        fields["decoder_vocab_size"] = None
    return fields


def _are_one(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and (first.data_ptr() == second.data_ptr() or torch.equal(first, second))


def _move_bias(weights: dict[str, torch.Tensor]) -> bool:
    """Makes a vector of the logits' bias, or drops it where it is 0; says whether there is one."""
    bias = weights.pop("lm_head.bias", None)
    if bias is None or not bias.any():
        return False
    weights["lm_head.bias"] = bias.flatten()
    return True


def _move_positions(weights: dict[str, torch.Tensor], stack: str, family: Family, fields: dict[str, Any]) -> None:
    """Drops rows before the first position, and a table that `position_embedding_type` gives anyway."""
    name = f"model.{stack}.positions.embedding.weight"
    table = weights.get(name)
    if table is None or table.dim() != 2 or "relative" in fields["position_embedding_type"]:
        return
    weights[name] = table = table[family.position_rows :]
    scheme = resolve_class(POSITION_EMBEDDING_TYPES[fields["position_embedding_type"]].path)
    if issubclass(scheme, SinusoidalPositions):
        if torch.equal(table, scheme.sinusoids(*table.shape).to(table.dtype)):
            del weights[name]
        else:
            fields["position_embedding_type"] = "learned"
