# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The families of transformers whose checkpoints hf_attn holds: one record each, of config fields and weight names.

A record is a declaration, read in both directions: what a field or a weight of the family is called here. What the
mapping means for the numbers is checked by running both models (`proof`), not believed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from transformers import PreTrainedConfig

from ..configuration_hf_attn import HfAttnConfig


FieldSource = str | Callable[[PreTrainedConfig], Any]
"""The family's field with the same meaning, or what is computed from its config."""


@dataclass(frozen=True)
class Family:
    """
    How the checkpoints of one `model_type` of transformers read as hf_attn's.

    Attributes:
        fields: A field of `HfAttnConfig` -> where its value comes from.
        constants: Fields of `HfAttnConfig` that are the same for the whole family.
        names: A weight's name there -> its name here. `{stack}` stands for `encoder` or `decoder`, `{layer}` for a
            number, `{kind}` for `weight` or `bias`, and other braces for one word.
        restores: Computes, for the way back, fields of the family that no single field here gives.
        position_rows: Rows of a position table before that of the first position.
        refuses: Says of a config why it cannot be held here; `None`: it can.
        ignored: Weights that have no effect, patterns as in `names`.
    """

    fields: Mapping[str, FieldSource]
    names: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    restores: Callable[[HfAttnConfig], dict[str, Any]] = lambda config: {}
    position_rows: int = 0
    refuses: Callable[[PreTrainedConfig], str | None] = lambda config: None
    ignored: tuple[str, ...] = ()

    def config_fields(self, config: PreTrainedConfig) -> dict[str, Any]:
        """Keywords of `HfAttnConfig` for a model of this family."""
        values = {
            name: source(config) if callable(source) else getattr(config, source)
            for name, source in self.fields.items()
        }
        return {**self.constants, **{name: value for name, value in values.items() if value is not None}}

    @cached_property
    def _imports(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(theirs), _template(ours)) for theirs, ours in self.names.items()]

    @cached_property
    def _exports(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(ours), _template(theirs)) for theirs, ours in self.names.items()]

    @cached_property
    def _ignored(self) -> list[re.Pattern[str]]:
        return [_pattern(name) for name in self.ignored]

    def name_here(self, name: str) -> str | None:
        """hf_attn's name of a weight of the family; `None`: it has no effect.

        Raises:
            ValueError: The family has no such weight.
        """
        if any(pattern.fullmatch(name) for pattern in self._ignored):
            return None
        for pattern, template in self._imports:
            match = pattern.fullmatch(name)
            if match:
                return template.format(**match.groupdict())
        raise ValueError(f"`{name}` is no weight of this family that is known here.")

    def names_there(self, name: str) -> list[str]:
        """Names that a weight of hf_attn may have in the family: which one, depends on the config."""
        return [
            template.format(**match.groupdict())
            for pattern, template in self._exports
            if (match := pattern.fullmatch(name))
        ]


_GROUPS = {"stack": "encoder|decoder", "layer": r"\d+", "kind": "weight|bias"}


def _pattern(template: str) -> re.Pattern[str]:
    def group(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{match[2] or _GROUPS.get(match[1], '[a-z_0-9]+')})"

    return re.compile(re.sub(r"\\\{(\w+)(?::([^}]*))?\\\}", group, _escaped(template)))


def _escaped(template: str) -> str:
    return template.replace(".", r"\.").replace("{", r"\{").replace("}", r"\}")


def _template(template: str) -> str:
    return re.sub(r"\{(\w+)(?::[^}]*)?\}", r"{\1}", template)


# Names of weights.

_STACK = "model.{stack}"
_LAYER = "model.{stack}.layers.{layer}"
_QUERY_KEY_VALUE = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}


def _bart_names(model: str = "model") -> dict[str, str]:
    """Those of BART and of what was built after it; `model` is what they call the encoder-decoder."""
    stack, layer = f"{model}.{{stack}}", f"{model}.{{stack}}.layers.{{layer}}"
    names = {
        f"{model}.shared.weight": "model.shared.weight",
        "lm_head.weight": "lm_head.weight",
        "final_logits_bias": "lm_head.bias",
        "qa_outputs.{kind}": "qa_outputs.{kind}",
        f"{stack}.embed_tokens.weight": f"{_STACK}.embed_tokens.weight",
        f"{stack}.embed_positions.weight": f"{_STACK}.positions.embedding.weight",
        f"{layer}.self_attn.{{projection}}.{{kind}}": f"{_LAYER}.mixer.{{projection}}.{{kind}}",
        f"{layer}.self_attn_layer_norm.{{kind}}": f"{_LAYER}.mixer_layer_norm.{{kind}}",
        f"{layer}.encoder_attn.{{projection}}.{{kind}}": f"{_LAYER}.encoder_attn.{{projection}}.{{kind}}",
        f"{layer}.{{linear:fc1|fc2}}.{{kind}}": f"{_LAYER}.feed_forward.{{linear}}.{{kind}}",
    }
    for norm in ("layernorm_embedding", "layer_norm"):
        names[f"{stack}.{norm}.{{kind}}"] = f"{_STACK}.{norm}.{{kind}}"
    for norm in ("encoder_attn_layer_norm", "final_layer_norm"):
        names[f"{layer}.{norm}.{{kind}}"] = f"{_LAYER}.{norm}.{{kind}}"
    return names


def _encoder_attention(prefix: str, output: str, projections: Mapping[str, str]) -> dict[str, str]:
    """Projections of an encoder whose attention has names of its own."""
    here = "model.encoder.layers.{layer}.mixer"
    names = {f"{prefix}.{theirs}.{{kind}}": f"{here}.{ours}.{{kind}}" for theirs, ours in projections.items()}
    return {**names, f"{output}.{{kind}}": f"{here}.out_proj.{{kind}}"}


def _t5_names(encoder_attention: str = "SelfAttention") -> dict[str, str]:
    names = {"shared.weight": "model.shared.weight", "lm_head.weight": "lm_head.weight"}
    names["{stack}.embed_tokens.weight"] = f"{_STACK}.embed_tokens.weight"
    names["{stack}.final_layer_norm.weight"] = f"{_STACK}.layer_norm.weight"
    branches = [
        ("encoder", 0, encoder_attention, "mixer", "mixer_layer_norm"),
        ("decoder", 0, "SelfAttention", "mixer", "mixer_layer_norm"),
        ("decoder", 1, "EncDecAttention", "encoder_attn", "encoder_attn_layer_norm"),
    ]
    for stack, index, attention, ours, norm in branches:
        there, here = f"{stack}.block.{{layer}}.layer.{index}", f"model.{stack}.layers.{{layer}}"
        for letter, projection in {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}.items():
            names[f"{there}.{attention}.{letter}.weight"] = f"{here}.{ours}.{projection}.weight"
        names[f"{there}.layer_norm.weight"] = f"{here}.{norm}.weight"
    for stack, index in (("encoder", 1), ("decoder", 2)):
        there, here = f"{stack}.block.{{layer}}.layer.{index}", f"model.{stack}.layers.{{layer}}"
        for theirs, ours in {"wi_0": "gate", "wi_1": "fc1", "wi": "fc1", "wo": "fc2"}.items():
            names[f"{there}.DenseReluDense.{theirs}.weight"] = f"{here}.feed_forward.{ours}.weight"
        names[f"{there}.layer_norm.weight"] = f"{here}.final_layer_norm.weight"
    return names


def _one_bias(name: str) -> str:
    return f"{{stack}}.block.0.layer.0.{name}.relative_attention_bias.weight"


# Fields of the config.

_SAME = {
    name: name
    for name in (
        "vocab_size",
        "d_model",
        "encoder_layers",
        "decoder_layers",
        "encoder_attention_heads",
        "decoder_attention_heads",
        "encoder_ffn_dim",
        "decoder_ffn_dim",
        "activation_function",
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "scale_embedding",
        "encoder_layerdrop",
        "decoder_layerdrop",
    )
}
_BART_FIELDS: dict[str, FieldSource] = {**_SAME, "max_position_embeddings": "max_position_embeddings"}
_BART = {
    "position_embedding_type": "learned",
    "norm_position": "post",
    "normalize_embedding": True,
    "layer_norm_eps": 1e-5,
    "positions_count_padding": True,
}
_T5_FIELDS: dict[str, FieldSource] = {
    "vocab_size": "vocab_size",
    "d_model": "d_model",
    "encoder_layers": "num_layers",
    "decoder_layers": "num_decoder_layers",
    "encoder_attention_heads": "num_heads",
    "decoder_attention_heads": "num_heads",
    "head_dim": "d_kv",
    "encoder_ffn_dim": "d_ff",
    "decoder_ffn_dim": "d_ff",
    "activation_function": "dense_act_fn",
    "gated_ffn": "is_gated_act",
    "layer_norm_eps": "layer_norm_epsilon",
    "relative_attention_num_buckets": "relative_attention_num_buckets",
    "relative_attention_max_distance": "relative_attention_max_distance",
    "dropout": "dropout_rate",
    "attention_dropout": "dropout_rate",
    "activation_dropout": "dropout_rate",
}
_T5 = {
    "position_embedding_type": "relative_bias",
    "norm_type": "rmsnorm",
    "norm_position": "pre",
    "use_bias": False,
    "scale_attention": False,
    "scale_embedding": False,
    "train_padding_embedding": True,
    "dropout_after_final_norm": True,
}


def _scales_logits(config: PreTrainedConfig) -> bool:
    """5.23 keeps whether a T5 was saved as tied in this field, and forces `tie_word_embeddings` to True."""
    return bool(config.scale_decoder_outputs)


def _t5_feed_forward(config: HfAttnConfig) -> dict[str, Any]:
    activation = config.activation_function
    if config.gated_ffn:
        # What T5 calls so is another function outside it.
        activation = "gated-" + {"gelu_new": "gelu"}.get(activation, activation)
    return {
        "feed_forward_proj": activation,
        "dense_act_fn": config.activation_function,
        "is_gated_act": config.gated_ffn,
        "scale_decoder_outputs": config.scale_decoder_outputs,
    }


def _longt5_fields(config: HfAttnConfig) -> dict[str, Any]:
    return {**_t5_feed_forward(config), "local_radius": config.window(0) // 2, "encoder_attention_type": "local"}


def _not_local(config: PreTrainedConfig) -> str | None:
    if config.encoder_attention_type == "local":
        return None
    return (
        f"its `encoder_attention_type` is {config.encoder_attention_type!r}, which attends to summaries of blocks; "
        "`local` can be held"
    )


def _not_full(config: PreTrainedConfig) -> str | None:
    if config.attention_type == "original_full":
        return None
    return (
        f"its `attention_type` is {config.attention_type!r}, whose random blocks are drawn anew in each layer. Set "
        '`"attention_type": "original_full"` in its config.json: inputs of up to (5 + 2 `num_random_blocks`) x '
        "`block_size` tokens have the same outputs"
    )


FAMILIES: dict[str, Family] = {
    "bart": Family(fields=_BART_FIELDS, constants=_BART, names=_bart_names(), position_rows=2),
    "plbart": Family(fields=_BART_FIELDS, constants=_BART, names=_bart_names(), position_rows=2),
    "mbart": Family(
        fields=_BART_FIELDS, constants={**_BART, "norm_position": "pre"}, names=_bart_names(), position_rows=2
    ),
    "blenderbot": Family(
        fields=_BART_FIELDS,
        constants={**_BART, "norm_position": "pre", "normalize_embedding": False},
        names=_bart_names(),
    ),
    "blenderbot-small": Family(
        fields=_BART_FIELDS,
        constants={**_BART, "norm_before_decoder_positions": True},
        names=_bart_names(),
    ),
    "pegasus": Family(
        fields=_BART_FIELDS,
        constants={
            **_BART,
            "position_embedding_type": "sinusoidal",
            "norm_position": "pre",
            "normalize_embedding": False,
        },
        names=_bart_names(),
    ),
    "marian": Family(
        fields={
            **_BART_FIELDS,
            "decoder_vocab_size": "decoder_vocab_size",
            "share_encoder_decoder_embeddings": "share_encoder_decoder_embeddings",
        },
        constants={**_BART, "position_embedding_type": "sinusoidal", "normalize_embedding": False},
        names=_bart_names(),
    ),
    "m2m_100": Family(
        fields={**_BART_FIELDS, "position_offset": lambda config: config.pad_token_id + 1},
        constants={
            **_BART,
            "position_embedding_type": "sinusoidal_tensor2tensor",
            "norm_position": "pre",
            "normalize_embedding": False,
            "positions_count_padding": False,
        },
        names=_bart_names(),
    ),
    "fsmt": Family(
        fields={
            **{name: there for name, there in _BART_FIELDS.items() if name != "vocab_size"},
            "vocab_size": "src_vocab_size",
            "decoder_vocab_size": "tgt_vocab_size",
            "position_offset": lambda config: config.pad_token_id + 1,
        },
        constants={
            **_BART,
            "position_embedding_type": "sinusoidal_tensor2tensor",
            "normalize_embedding": False,
            "positions_count_padding": False,
            "share_encoder_decoder_embeddings": False,
        },
        names={**_bart_names(), "model.decoder.output_projection.weight": "lm_head.weight"},
        ignored=("model.{stack}.embed_positions.weight",),
    ),
    "t5": Family(
        fields={**_T5_FIELDS, "scale_decoder_outputs": _scales_logits},
        restores=_t5_feed_forward,
        constants=_T5,
        names={**_t5_names(), _one_bias("SelfAttention"): f"{_STACK}.positions.embedding.weight"},
    ),
    "mt5": Family(
        fields=_T5_FIELDS,
        restores=_t5_feed_forward,
        constants=_T5,
        names={**_t5_names(), _one_bias("SelfAttention"): f"{_STACK}.positions.embedding.weight"},
    ),
    "umt5": Family(
        fields=_T5_FIELDS,
        restores=_t5_feed_forward,
        constants={**_T5, "position_embedding_type": "layer_relative_bias", "scale_decoder_outputs": True},
        names={
            **_t5_names(),
            "{stack}.block.{layer}.layer.0.SelfAttention.relative_attention_bias.weight": (
                f"{_STACK}.positions.layers.{{layer}}.embedding.weight"
            ),
        },
    ),
    "longt5": Family(
        fields={
            **_T5_FIELDS,
            "sliding_window": lambda config: 2 * config.local_radius,
            "scale_decoder_outputs": _scales_logits,
        },
        restores=_longt5_fields,
        constants={**_T5, "encoder_layer_types": "sliding_attention"},
        names={
            **_t5_names("LocalSelfAttention"),
            "encoder.block.0.layer.0.LocalSelfAttention.relative_attention_bias.weight": (
                "model.encoder.positions.embedding.weight"
            ),
            "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (
                "model.decoder.positions.embedding.weight"
            ),
        },
        refuses=_not_local,
    ),
    "led": Family(
        fields={
            **{name: there for name, there in _SAME.items() if name != "scale_embedding"},
            "max_position_embeddings": "max_encoder_position_embeddings",
            "max_decoder_position_embeddings": "max_decoder_position_embeddings",
            "sliding_window": "attention_window",
        },
        constants={
            **_BART,
            "scale_embedding": False,
            "encoder_layer_types": "sliding_attention",
            "global_attention_projections": True,
        },
        names={
            **_encoder_attention(
                "led.encoder.layers.{layer}.self_attn.longformer_self_attn",
                "led.encoder.layers.{layer}.self_attn.output",
                {
                    **_QUERY_KEY_VALUE,
                    **{f"{theirs}_global": f"{ours}_global" for theirs, ours in _QUERY_KEY_VALUE.items()},
                },
            ),
            **_bart_names("led"),
        },
    ),
    "bigbird_pegasus": Family(
        fields={**_BART_FIELDS, "attention_bias": "use_bias"},
        restores=lambda config: {"attention_type": "original_full"},
        constants={**_BART, "norm_position": "pre", "normalize_embedding": False},
        names={
            **_encoder_attention(
                "model.encoder.layers.{layer}.self_attn.self",
                "model.encoder.layers.{layer}.self_attn.output",
                _QUERY_KEY_VALUE,
            ),
            **_bart_names(),
            # Its name notwithstanding, it comes after the last layer.
            "model.{stack}.layernorm_embedding.{kind}": f"{_STACK}.layer_norm.{{kind}}",
        },
        refuses=_not_full,
    ),
}
"""`model_type` of a config -> its family."""

REFUSED: dict[str, str] = {
    "pegasus_x": "its encoder attends in staggered blocks, with global tokens that have a stream of their own",
    "prophetnet": "its decoder has two streams and predicts several tokens at once",
    "t5gemma": "its layers have norms before and after each branch, and its logits and attention logits are capped",
    "t5gemma2": "one softmax attends to source and target at once, and an image can be part of the source",
    "switch_transformers": "a token goes through experts of limited room, so that outputs depend on the batch",
    "nllb-moe": "a token goes through experts of limited room, so that outputs depend on the batch",
    "encoder-decoder": "its head has a layer and its stacks may have any two architectures",
}
"""`model_type` -> why a checkpoint cannot be held."""
