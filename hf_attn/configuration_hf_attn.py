# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""Configuration of the hf_attn family: fields, derived values and validation. No torch."""

import copy
import math
import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import cache, wraps
from typing import Any, ClassVar, TypeVar

# First of all: it refuses versions of transformers that lack what follows.
from .modeling_versions import CACHE_NAME  # isort: split


from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import GenerationConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging
from typing_extensions import override

from .configuration_mechanisms import (
    CROSS_ATTENTION_TYPES,
    LAYER_TYPES,
    NORM_TYPES,
    POSITION_EMBEDDING_TYPES,
    CrossAttentionType,
    PositionEmbeddingType,
    check_choice,
    nearest,
)
from .configuration_presets import PRESETS


logger = logging.get_logger(__name__)


# What transformers' caches call a layer that keeps a state of fixed size.
STATE_CACHE = "hf_attn_state"
NORM_POSITIONS = ("pre", "post", "none")
DTYPES = ("float32", "float16", "bfloat16", "float64")
# More are taken for a damaged file, before lists or modules are made of them.
MOST_LAYERS = 1000
MOST_LABELS = 1_000_000

ConfigClass = TypeVar("ConfigClass", bound=type)

# Keywords that `PreTrainedConfig` takes without declaring them as fields.
INHERITED_KEYWORDS = frozenset(
    {
        "name_or_path",
        "output_attentions",
        "attn_implementation",
        "experts_implementation",
        "torch_dtype",
        "num_labels",
        "per_layer_config",
        "auto_map",
        "tie_last_hidden_states",
        "model_type",
        "_commit_hash",
        "_attn_implementation_internal",
        "_experts_implementation_internal",
        "quantization_config",
        "is_decoder",
        "add_cross_attention",
        "prefix",
    }
)

# Last parts of the names of modules that an adapter wraps by default; those that a model lacks are passed over.
LORA_TARGETS = ("q_proj", "v_proj", "ih_proj", "hh_proj", "ih_proj_reverse", "hh_proj_reverse", "in_proj")


def with_plain_errors(config_class: ConfigClass) -> ConfigClass:
    """
    Makes a `@strict` class raise `TypeError` for a value of another type, and `ValueError` for what it refuses as a
    whole, in place of errors that are neither.
    """
    changed: Any = config_class
    strict_setattr, strict_validate = changed.__setattr__, changed.validate

    @wraps(strict_setattr)
    def checked_setattr(self: Any, name: str, value: Any) -> None:
        try:
            strict_setattr(self, name, value)
        except StrictDataclassFieldValidationError as error:
            expected = type(self).__dataclass_fields__[name].type
            expected = expected.__name__ if isinstance(expected, type) else expected
            raise TypeError(f"`{name}` must be {expected}, got {value!r} ({type(value).__name__}).") from error

    @wraps(strict_validate)
    def checked_validate(self: Any) -> None:
        try:
            strict_validate(self)
        except StrictDataclassClassValidationError as error:
            raise ValueError(f"The configuration is refused: {error.__cause__}") from error

    changed.__setattr__, changed.validate = checked_setattr, checked_validate
    return config_class


# trf-ignore: TRF057 all arguments are described here, pairs of them together
@with_plain_errors
@strict
class HfAttnConfig(PreTrainedConfig):
    r"""
    Configuration of an attention encoder-decoder whose layers are attentions or recurrences in any mix. The names
    are BART's wherever BART has one.

    Args:
        vocab_size (`int`, defaults to 32000): Number of tokens, of source and target.
        decoder_vocab_size (`int`, *optional*): That of the target, where it has a vocabulary of its own (Marian).
        share_encoder_decoder_embeddings (`bool`, defaults to `True`): Source and target have one table of embeddings.
        d_model (`int`, defaults to 512): Width of the hidden states.
        max_position_embeddings (`int`, defaults to 1024): Longest sequence, in tokens, that the position tables
            (`sinusoidal`, `sinusoidal_tensor2tensor`, `learned`) hold; the other schemes have no limit.
        max_decoder_position_embeddings (`int`, *optional*): That of the decoder's table, where it is another (LED).
        encoder_layers, decoder_layers (`int`, default to 6): Number of layers.
        encoder_layer_types, decoder_layer_types (`str` or `list[str]`, default to `"full_attention"`): What mixes
            positions in a layer, one name for all layers or a list, one a layer: `full_attention`,
            `sliding_attention`, `linear_attention`, `lstm`, `gru`, `rnn`, `ssru`. A list once the config is built.
        encoder_attention_heads, decoder_attention_heads (`int`, default to 8): Number of query heads.
        encoder_key_value_heads, decoder_key_value_heads (`int`, default to the number of heads): Number of key and
            value heads (grouped-query attention, Ainslie et al. 2023).
        head_dim (`int`, *optional*): Width of a head; `d_model / heads` when not given.
        encoder_ffn_dim, decoder_ffn_dim (`int`, default to 2048): Width of the feed-forward; 0: none.
        cross_attention_type (`str`, defaults to `"scaled_dot_product"`): `scaled_dot_product` (Vaswani et al. 2017),
            `additive` (Bahdanau et al. 2015), `dot`, `general` (Luong et al. 2015), or `none`: the decoder sees only
            the pooled source (Sutskever et al. 2014).
        sliding_window (`int` or `list[int]`, defaults to 256): Keys that a query of a `sliding_attention` layer sees;
            half of them on each side in an encoder, itself and those before it in a decoder. A list has one number a
            layer of the encoder (LED).
        global_attention_tokens (`int`, defaults to 0): Tokens at the start of a sequence that, in `sliding_attention`
            layers, see and are seen by all (Beltagy et al. 2020).
        global_attention_projections (`bool`, defaults to `False`): What those tokens see, in an encoder, goes through
            projections of its own (Beltagy et al. 2020, section 3.1; LED).
        bidirectional_encoder (`bool`, defaults to `True`): Recurrent encoder layers read both ways, d_model/2 each.
        position_embedding_type (`str`, defaults to `"sinusoidal"`): `sinusoidal`, `sinusoidal_tensor2tensor` (Marian's
            own engine, M2M100), `learned`, `rope`, `relative_bias` (T5), `layer_relative_bias` (UMT5: a table a
            layer), `alibi` or `none`.
        position_offset (`int`, defaults to 0): What a sinusoid takes the first position for (M2M100: 2).
        positions_count_padding (`bool`, defaults to `False`): Padding before a token moves its position (BART, Marian,
            T5's kin aside all older families); else only real tokens count.
        relative_attention_num_buckets, relative_attention_max_distance (`int`, default to 32 and 128): As in T5.
        rope_theta (`float`, defaults to 10000): Base of the rotary wavelengths.
        norm_type (`str`, defaults to `"layernorm"`): `layernorm` or `rmsnorm`.
        norm_position (`str`, defaults to `"pre"`): `pre` (with a norm after the last layer), `post` or `none`.
        layer_norm_eps (`float`, defaults to 1e-5): Added to the variance.
        normalize_embedding (`bool`, defaults to `False`): A norm after the embedding (BART, mBART).
        norm_before_decoder_positions (`bool`, defaults to `False`): In the decoder that norm stands before the
            positions are added, not after (Blenderbot-small).
        activation_function (`str`, defaults to `"relu"`): A name in `transformers.activations.ACT2FN`.
        gated_ffn (`bool`, defaults to `False`): Gated linear units in the feed-forward (Shazeer 2020).
        use_bias (`bool`, defaults to `True`): Biases in projections.
        attention_bias (`bool`, *optional*): Biases in those of attentions, where that is not `use_bias` (BigBird).
        scale_attention (`bool`, defaults to `True`): Divide scores that are products (all but `additive`) by
            sqrt(head_dim); T5 and Luong et al. do not.
        scale_embedding (`bool`, defaults to `True`): Multiply embeddings by sqrt(d_model).
        scale_decoder_outputs (`bool`, defaults to `False`): Divide what the output projection reads by sqrt(d_model)
            (T5).
        train_padding_embedding (`bool`, defaults to `False`): The embedding of `pad_token_id` starts and is trained
            as any other (T5, which starts its targets with it); else it is 0 at the start and gets no gradient.
        tie_word_embeddings (`bool`, defaults to `True`): The output projection is the embedding.
        logits_bias (`bool`, defaults to `False`): A bias in the output projection (Marian).
        dropout, attention_dropout, activation_dropout, classifier_dropout (`float`, default to 0.1, 0, 0, 0):
            Probabilities, of residual branches and embeddings, attention weights, the hidden layer of the
            feed-forward, and the input of the classification heads.
        dropout_after_final_norm (`bool`, defaults to `False`): `dropout` acts on what leaves a stack, too (T5).
        encoder_layerdrop, decoder_layerdrop (`float`, default to 0): Probability with which a layer is left out of a
            training step (Fan et al. 2020).
        label_smoothing (`float`, defaults to 0.0): Inside the model's loss (Szegedy et al. 2016).
        copy_attention (`bool`, defaults to `False`): Source tokens can be copied: the language modeling head mixes
            the vocabulary's distribution with the cross-attention of the last decoder layer, averaged over its heads
            (pointer-generator, See et al. 2017, equations 8 and 9). The logits are then log-probabilities.
        coverage_loss_weight (`float`, defaults to 0.0): Weight, in the language modeling loss, of attending again to
            what that same attention has attended to before (See et al. 2017, equation 13), copying or not.
        match_embedding (`bool`, defaults to `False`): Tokens of one text of a source that also stand in its other,
            such as words of the question in the context, are marked by a vector on their embedding ("exact match",
            Chen et al. 2017, section 3.2). The first `eos_token_id` parts the two.
        use_cache (`bool`, defaults to `True`): Generation carries its state in a cache, `past_key_values` or, from
            transformers 5.24 on, `cache`.
        pad_token_id, bos_token_id, eos_token_id, decoder_start_token_id (`int`, default to 1, 0, 2, 2).

    Raises:
        ValueError: A field is out of range, or a keyword is known neither here nor to `PreTrainedConfig`.
        TypeError: A field has a value of another type.

    ```python
    >>> from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration
    >>> config = HfAttnConfig.from_preset("hybrid_tiny", vocab_size=8000)
    >>> model = HfAttnForConditionalGeneration(config)
    ```
    """

    model_type = "hf_attn"
    keys_to_ignore_at_inference: ClassVar = [CACHE_NAME]
    attribute_map: ClassVar = {
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
        "num_attention_heads": "encoder_attention_heads",
    }

    vocab_size: int = 32000
    decoder_vocab_size: int | None = None
    share_encoder_decoder_embeddings: bool = True
    d_model: int = 512  # trf-ignore: TRF023 the width's name in seq2seq configs (BART, Marian, T5)
    max_position_embeddings: int = 1024
    max_decoder_position_embeddings: int | None = None
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_layer_types: str | list[str] = "full_attention"
    decoder_layer_types: str | list[str] = "full_attention"
    encoder_attention_heads: int = 8
    decoder_attention_heads: int = 8
    encoder_key_value_heads: int | None = None
    decoder_key_value_heads: int | None = None
    head_dim: int | None = None
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    cross_attention_type: str = "scaled_dot_product"
    sliding_window: int | list[int] = 256
    global_attention_tokens: int = 0
    global_attention_projections: bool = False
    bidirectional_encoder: bool = True
    position_embedding_type: str = "sinusoidal"
    position_offset: int = 0
    positions_count_padding: bool = False
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    rope_theta: float | int = 10000.0
    norm_type: str = "layernorm"
    norm_position: str = "pre"
    layer_norm_eps: float | int = 1e-5
    normalize_embedding: bool = False
    norm_before_decoder_positions: bool = False
    activation_function: str = "relu"
    gated_ffn: bool = False
    use_bias: bool = True
    attention_bias: bool | None = None
    scale_attention: bool = True
    scale_embedding: bool = True
    scale_decoder_outputs: bool = False
    train_padding_embedding: bool = False
    tie_word_embeddings: bool = True
    logits_bias: bool = False
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.0
    dropout_after_final_norm: bool = False
    encoder_layerdrop: float | int = 0.0
    decoder_layerdrop: float | int = 0.0
    label_smoothing: float | int = 0.0
    copy_attention: bool = False
    coverage_loss_weight: float | int = 0.0
    match_embedding: bool = False
    use_cache: bool = True
    is_encoder_decoder: bool = True
    pad_token_id: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int = 2

    @override
    def __post_init__(self, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in self.known_keywords() and not name.startswith("_"):
                raise ValueError(
                    f"`{name}` is not a field of HfAttnConfig{nearest(name, self.known_keywords())}. Known fields: "
                    f"{', '.join(sorted(field.name for field in fields(self)))}."
                )
        for alias, name in self.attribute_map.items():
            if alias in kwargs:
                value, given = kwargs.pop(alias), getattr(self, name)
                if given not in (value, getattr(type(self), name)):
                    raise ValueError(f"`{alias}` is another name of `{name}`, got {value!r} and {given!r}. Give one.")
                setattr(self, name, value)
        if kwargs.get("num_labels", 0) is None:
            del kwargs["num_labels"]
        self._check_inherited(kwargs)
        for name in ("encoder_layers", "decoder_layers"):
            if getattr(self, name) > MOST_LAYERS:
                raise ValueError(f"`{name}` must be at most {MOST_LAYERS}, got {getattr(self, name)}.")
        self.encoder_layer_types = _one_a_layer("encoder", self.encoder_layer_types, self.encoder_layers)
        self.decoder_layer_types = _one_a_layer("decoder", self.decoder_layer_types, self.decoder_layers)
        if self.encoder_key_value_heads is None:
            self.encoder_key_value_heads = self.encoder_attention_heads
        if self.decoder_key_value_heads is None:
            self.decoder_key_value_heads = self.decoder_attention_heads
        self._check_choices()
        self._check_ranges()
        self._check_heads()
        self._check_effects()
        super().__post_init__(**kwargs)

    @classmethod
    @cache
    def known_keywords(cls) -> frozenset[str]:
        """Names that the constructor takes: own and inherited fields, their aliases, and generation settings."""
        declared = {field.name for field in fields(cls)}
        return frozenset(declared | set(cls.attribute_map) | INHERITED_KEYWORDS | set(GenerationConfig().to_dict()))

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "HfAttnConfig":
        """
        The config of a named architecture, with any field overridden.

        Args:
            name (`str`): One of `PRESETS`: `bahdanau2015`, `luong2015`, `transformer_tiny`, `transformer_base`,
                `hybrid_tiny`, `hybrid_ssru`, `hybrid_lstm`, `long_encoder`.
            overrides: Fields of this class.

        Raises:
            ValueError: `name` is not a preset, or an override is refused by the class.
        """
        if name not in PRESETS:
            raise ValueError(
                f"`name` must be a preset, got {name!r}{nearest(name, PRESETS)}. Presets: {', '.join(PRESETS)}."
            )
        named = {cls.attribute_map.get(keyword, keyword): value for keyword, value in overrides.items()}
        return cls(**{**PRESETS[name], **named})

    @override
    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """
        As `PreTrainedConfig.from_dict`; keys that this version does not know are kept, with a warning.

        Raises:
            ValueError: As the constructor; or a key is the name of something else that a config has.
            TypeError: As the constructor; or `config_dict` is no mapping of names to values.
        """
        if not isinstance(config_dict, Mapping) or not all(isinstance(key, str) for key in config_dict):
            raise TypeError(f"`config_dict` must map names to values, got {config_dict!r}.")
        known = cls.known_keywords()
        unknown = {key: value for key, value in config_dict.items() if key not in known}
        for key in unknown:
            if hasattr(cls, key) and key not in _WRITTEN_BY_OTHERS:
                raise ValueError(f"`{key}` is not a field of {cls.__name__}, which has something else of this name.")
        unknown = {key: value for key, value in unknown.items() if not key.startswith("_")}
        if unknown:
            logger.warning(
                f"The configuration holds keys that this version of hf_attn does not know; they are kept but have "
                f"no effect: {', '.join(f'`{key}`' for key in sorted(unknown))}."
            )
        loaded = super().from_dict({key: config_dict[key] for key in config_dict if key not in unknown}, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for key, value in unknown.items():
            setattr(config, key, value)
        return loaded

    @override
    def to_dict(self) -> dict[str, Any]:
        """As `PreTrainedConfig.to_dict`. PEFT asks for it right before it looks up what to adapt: it is told here."""
        add_lora_targets()
        return super().to_dict()

    @property
    def cache_layer_types(self) -> list[str]:
        """The kind of cache that each decoder layer needs, in the names of transformers' caches and ours."""
        return [
            STATE_CACHE
            if LAYER_TYPES[layer_type].carries_state
            # A window forgets; the keys of global tokens must stay.
            else ("full_attention" if self.global_attention_tokens else layer_type)
            for layer_type in self.decoder_layer_types
        ]

    @property
    def target_vocab_size(self) -> int:
        """Number of tokens of the target, and so of logits."""
        return self.vocab_size if self.decoder_vocab_size is None else self.decoder_vocab_size

    @property
    def attentions_have_bias(self) -> bool:
        """Whether the projections of attentions have biases."""
        return self.use_bias if self.attention_bias is None else self.attention_bias

    @property
    def cross_attention(self) -> CrossAttentionType:
        """The registry line of `cross_attention_type`."""
        return CROSS_ATTENTION_TYPES[self.cross_attention_type]

    @property
    def positions(self) -> PositionEmbeddingType:
        """The registry line of `position_embedding_type`."""
        return POSITION_EMBEDDING_TYPES[self.position_embedding_type]

    @property
    def reads_cross_attention_weights(self) -> bool:
        """Whether the language modeling head reads the cross-attention weights of the last decoder layer."""
        return self.copy_attention or self.coverage_loss_weight > 0

    @property
    def end_token_ids(self) -> list[int]:
        """`eos_token_id` as a list, which is empty where there is none."""
        end = self.eos_token_id
        return [] if end is None else end if isinstance(end, list) else [end]

    def max_positions(self, stack: str) -> int:
        """Longest sequence, in tokens, of a position table of `stack`."""
        own = self.max_decoder_position_embeddings if stack == "decoder" else None
        return self.max_position_embeddings if own is None else own

    def window(self, layer_idx: int) -> int:
        """`sliding_window` of layer `layer_idx`, of the encoder where they differ."""
        return self.sliding_window[layer_idx] if isinstance(self.sliding_window, list) else self.sliding_window

    def has_scores(self, stack: str) -> bool:
        """Whether a layer of `stack` has scores for each query and key of its own sequence."""
        return not all(LAYER_TYPES[name].carries_state for name in getattr(self, f"{stack}_layer_types"))

    def position_scheme(self, stack: str) -> str:
        """The position scheme of `stack`: none for layers without scores where the scheme acts on scores."""
        scheme = self.position_embedding_type
        return "none" if self.positions.in_scores and not self.has_scores(stack) else scheme

    @property
    @override
    def base_model_tp_plan(self) -> dict[str, str]:
        """
        Which linear layers tensor parallelism splits, and how. Whole stay layers that keep a state, that bias the
        scores of all heads, whose score is no scaled dot product, or whose weights the head averages over all heads;
        and the embedding with the head tied to it.
        """
        plan = {}
        for stack in ("encoder", "decoder"):
            attentions = []
            if self.has_scores(stack) and not self.positions.biases_scores:
                attentions.append("mixer")
            splits_cross_attention_heads = self.cross_attention.splits_heads and not self.reads_cross_attention_weights
            if stack == "decoder" and splits_cross_attention_heads:
                attentions.append("encoder_attn")
            for attention in attentions:
                for projection in ("q_proj", "k_proj", "v_proj"):
                    plan[f"{stack}.layers.*.{attention}.{projection}"] = "colwise"
                plan[f"{stack}.layers.*.{attention}.out_proj"] = "rowwise"
            if getattr(self, f"{stack}_ffn_dim"):
                for projection in ("fc1", "gate") if self.gated_ffn else ("fc1",):
                    plan[f"{stack}.layers.*.feed_forward.{projection}"] = "colwise"
                plan[f"{stack}.layers.*.feed_forward.fc2"] = "rowwise"
        return plan

    @base_model_tp_plan.setter
    def base_model_tp_plan(self, plan: dict[str, str]) -> None:
        # transformers 5.20 alone adds the tied embedding, which stays whole here.
        if plan != {**self.base_model_tp_plan, "embed_tokens": "embedding_rowwise"}:
            raise AttributeError("`base_model_tp_plan` follows from the fields of the config: set these.")

    @override
    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """As `PreTrainedConfig.get_text_config`; the decoder's `layer_types` are those that caches are built from."""
        if not decoder or encoder:
            return super().get_text_config(decoder=decoder, encoder=encoder)
        # The base class takes the fields of the decoder for those of the whole, also one that is not set.
        filled = copy.copy(self)
        filled.decoder_vocab_size = self.target_vocab_size
        text_config = super(HfAttnConfig, filled).get_text_config(decoder=True)
        if not hasattr(self, "layer_types"):
            text_config.layer_types = self.cache_layer_types
        return text_config

    def _check_inherited(self, keywords: Mapping[str, Any]) -> None:
        """Refuses what the base class would take apart, look up in torch or make large tables of without a look."""
        for name, allowed in _INHERITED_TYPES.items():
            value = keywords.get(name, getattr(self, name, None) if name in self.__dict__ else None)
            if value is not None and not isinstance(value, allowed):
                raise TypeError(f"`{name}` must be {_type_names(allowed)}, got {value!r} ({type(value).__name__}).")
        for name in ("id2label", "per_layer_config"):
            for key in keywords.get(name, self.__dict__.get(name)) or ():
                try:
                    int(key)
                except (TypeError, ValueError, OverflowError):
                    raise ValueError(f"The keys of `{name}` must be whole numbers, got {key!r}.") from None
        for name, dtype in (("dtype", self.dtype), ("torch_dtype", keywords.get("torch_dtype"))):
            if isinstance(dtype, str):
                check_choice(name, dtype, DTYPES)
            elif dtype is not None and type(dtype).__module__ != "torch":
                raise TypeError(f"`{name}` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        quantization = keywords.get("quantization_config")
        if not (quantization is None or isinstance(quantization, dict) or hasattr(quantization, "to_dict")):
            raise TypeError(f"`quantization_config` must be a dict or a configuration, got {quantization!r}.")
        num_labels = keywords.get("num_labels")
        if num_labels is not None and not 0 <= num_labels <= MOST_LABELS:
            raise ValueError(f"`num_labels` must be from 0 to {MOST_LABELS}, got {num_labels}.")

    def _check_choices(self) -> None:
        for name, allowed in (
            ("cross_attention_type", CROSS_ATTENTION_TYPES),
            ("position_embedding_type", POSITION_EMBEDDING_TYPES),
            ("norm_type", NORM_TYPES),
            ("norm_position", NORM_POSITIONS),
        ):
            check_choice(name, getattr(self, name), allowed)

    def _check_ranges(self) -> None:
        positive = (
            "vocab_size d_model max_position_embeddings encoder_layers decoder_layers encoder_attention_heads "
            "decoder_attention_heads encoder_key_value_heads decoder_key_value_heads "
            "relative_attention_num_buckets relative_attention_max_distance"
        )
        for name in positive.split():
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("decoder_vocab_size", "max_decoder_position_embeddings", "head_dim"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        self._check_windows()
        for name in (
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "global_attention_tokens",
            "coverage_loss_weight",
            "position_offset",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be 0 or more, got {getattr(self, name)}.")
        for name in ("rope_theta", "layer_norm_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be greater than 0 and finite, got {getattr(self, name)}.")
        if not 4 <= self.relative_attention_num_buckets < 2 * self.relative_attention_max_distance:
            raise ValueError(
                "`relative_attention_num_buckets` must be at least 4 and less than twice "
                f"`relative_attention_max_distance`, got {self.relative_attention_num_buckets} and "
                f"{self.relative_attention_max_distance}."
            )
        probabilities = (
            "dropout attention_dropout activation_dropout classifier_dropout encoder_layerdrop decoder_layerdrop "
            "label_smoothing"
        )
        for name in probabilities.split():
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 0 and less than 1, got {getattr(self, name)}.")
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            given = getattr(self, name)
            for value in given if isinstance(given, list) else [given]:
                limit, size = ("vocab_size", self.vocab_size)
                if name == "decoder_start_token_id" and self.decoder_vocab_size is not None:
                    limit, size = ("decoder_vocab_size", self.decoder_vocab_size)
                if value is not None and not 0 <= value < size:
                    raise ValueError(f"`{name}` must be in [0, `{limit}` = {size}), got {value}.")

    def _check_windows(self) -> None:
        windows = self.sliding_window if isinstance(self.sliding_window, list) else [self.sliding_window]
        if isinstance(self.sliding_window, list):
            if len(windows) != self.encoder_layers:
                raise ValueError(
                    f"`sliding_window` must be one number, or one a layer of the encoder: `encoder_layers` is "
                    f"{self.encoder_layers}, got a list of {len(windows)}: {windows}."
                )
            if any(LAYER_TYPES[name].has_window for name in self.decoder_layer_types):
                raise ValueError(
                    "`sliding_window` must be one number where the decoder has `sliding_attention` layers, got "
                    f"{windows}, which is one a layer of the encoder."
                )
        smallest = 1
        if any(LAYER_TYPES[name].has_window for name in self.encoder_layer_types):
            smallest = 2
        for window in windows:
            if window < smallest:
                raise ValueError(
                    f"`sliding_window` must be at least {smallest}"
                    f"{' in an encoder, one key on each side' if smallest == 2 else ''}, got {self.sliding_window}."
                )

    def _check_heads(self) -> None:
        for stack in ("encoder", "decoder"):
            heads, key_value_heads = (getattr(self, f"{stack}_{name}_heads") for name in ("attention", "key_value"))
            if self.head_dim is None and self.d_model % heads:
                raise ValueError(
                    f"`d_model` must be divisible by `{stack}_attention_heads`, got {self.d_model} and {heads}."
                )
            if heads % key_value_heads:
                raise ValueError(
                    f"`{stack}_attention_heads` must be divisible by `{stack}_key_value_heads`, got {heads} and "
                    f"{key_value_heads}."
                )
        scheme = self.position_embedding_type
        heads, key_value_heads = self.decoder_attention_heads, self.decoder_key_value_heads
        if not self.cross_attention.projects_keys and key_value_heads != heads:
            raise ValueError(
                "`decoder_key_value_heads` must equal `decoder_attention_heads` when `cross_attention_type` is "
                f"`{self.cross_attention_type}`, which has no key projection, got {key_value_heads} and {heads}."
            )
        if (
            not self.cross_attention.projects_queries
            and self.head_dim is not None
            and self.head_dim * heads != self.d_model
        ):
            raise ValueError(
                "`head_dim` x `decoder_attention_heads` must equal `d_model` when `cross_attention_type` is "
                f"`{self.cross_attention_type}`, which has no query projection, got {self.head_dim} x {heads} and "
                f"{self.d_model}."
            )
        if self.positions.even_heads:
            for stack in ("encoder", "decoder"):
                head_dim = self.head_dim or self.d_model // getattr(self, f"{stack}_attention_heads")
                if head_dim % 2:
                    raise ValueError(
                        f"A head must have an even width for `{scheme}` positions, got {head_dim} ({stack})."
                    )

    def _check_effects(self) -> None:
        """Refuses options which this combination of fields would leave without effect."""
        types = {*self.encoder_layer_types, *self.decoder_layer_types}
        scheme = self.position_embedding_type
        if self.positions.in_scores and not (self.has_scores("encoder") or self.has_scores("decoder")):
            raise ValueError(
                f"`position_embedding_type` = {scheme!r} acts on the scores of `full_attention` and "
                f"`sliding_attention` layers, and there is none. Use `sinusoidal`, `learned` or `none`, got layer "
                f"types {sorted(types)}."
            )
        if self.global_attention_tokens and not any(LAYER_TYPES[name].has_window for name in types):
            raise ValueError(
                f"`global_attention_tokens` = {self.global_attention_tokens} acts in `sliding_attention` layers, and "
                "there is none. Set it to 0, or use `sliding_attention` in a stack."
            )
        if self.reads_cross_attention_weights and not self.cross_attention.has_weights:
            raise ValueError(
                "`copy_attention` and `coverage_loss_weight` read the weights of the cross-attention, and "
                f"`cross_attention_type` = {self.cross_attention_type!r} has none, got {self.copy_attention} and "
                f"{self.coverage_loss_weight}. Leave them at False and 0.0, or use another `cross_attention_type`."
            )
        has_window = any(LAYER_TYPES[name].has_window for name in self.encoder_layer_types)
        if self.global_attention_projections and not has_window:
            raise ValueError(
                "`global_attention_projections` are of `sliding_attention` layers of the encoder, and there is none. "
                "Set it to False, or use `sliding_attention` in the encoder."
            )
        if self.position_offset and not self.positions.has_offset:
            raise ValueError(
                f"`position_offset` = {self.position_offset} acts on sinusoids, and `position_embedding_type` is "
                f"{scheme!r}. Set it to 0, or use `sinusoidal`."
            )
        if self.norm_before_decoder_positions and not self.normalize_embedding:
            raise ValueError(
                "`norm_before_decoder_positions` moves the norm that `normalize_embedding` adds, which is False. Set "
                "that to True, or this to False."
            )
        self._check_vocabularies()
        if self.match_embedding and not self.end_token_ids:
            raise ValueError(
                "`match_embedding` compares the two texts that `eos_token_id` parts, and it is "
                f"{self.eos_token_id}. Set it to the end token of the tokenizer, or `match_embedding` to False."
            )

    def _check_vocabularies(self) -> None:
        """Refuses what takes source and target for texts of one vocabulary."""
        if self.share_encoder_decoder_embeddings and self.target_vocab_size != self.vocab_size:
            raise ValueError(
                "`share_encoder_decoder_embeddings` must be False where `decoder_vocab_size` is not `vocab_size`, got "
                f"{self.decoder_vocab_size} and {self.vocab_size}."
            )
        if self.copy_attention and not self.share_encoder_decoder_embeddings:
            raise ValueError(
                "`copy_attention` writes tokens of the source, which must be tokens of the target: "
                "`share_encoder_decoder_embeddings` must be True, got False."
            )


def add_lora_targets() -> None:
    """Adds what LoRA adapts by default to PEFT's table, where PEFT is imported: that takes seconds."""
    constants = sys.modules.get("peft.utils.constants")
    if constants is not None:
        table = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        table.setdefault(HfAttnConfig.model_type, list(LORA_TARGETS))


# Properties of the base class that config files may hold.
_WRITTEN_BY_OTHERS = frozenset({"_name_or_path", "_attn_implementation", "_experts_implementation"})


_INHERITED_TYPES: dict[str, type | tuple[type, ...]] = {
    "architectures": list,
    "attn_implementation": (str, dict),
    "experts_implementation": (str, dict),
    "id2label": dict,
    "label2id": dict,
    "num_labels": int,
    "output_attentions": bool,
    "prefix": str,
    "per_layer_config": dict,
    "problem_type": str,
}


def _type_names(types: type | tuple[type, ...]) -> str:
    return " or ".join(one.__name__ for one in (types if isinstance(types, tuple) else (types,)))


def _one_a_layer(stack: str, layer_types: str | list[str], num_layers: int) -> list[str]:
    name = f"{stack}_layer_types"
    listed = [layer_types] * num_layers if isinstance(layer_types, str) else list(layer_types)
    if len(listed) != num_layers:
        raise ValueError(
            f"`{name}` must name one type for all layers or one a layer: `{stack}_layers` is {num_layers}, got a list "
            f"of {len(listed)}: {listed}."
        )
    for layer_type in listed:
        check_choice(name, layer_type, LAYER_TYPES)
    return listed


__all__ = ["PRESETS", "HfAttnConfig"]
