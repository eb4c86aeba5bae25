# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""The base class of all models, and the two stacks that they are made of: the encoder and the decoder."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
)
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import (
    TransformersKwargs,
    auto_docstring,
    is_torchdynamo_compiling,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs
from typing_extensions import override

from .configuration_hf_attn import HfAttnConfig
from .configuration_mechanisms import POSITION_EMBEDDING_TYPES
from .modeling_attention import AdditiveAttention, Attention, AttentionMask, Rotations, eager_config
from .modeling_cache import adapt_cache, build_cache
from .modeling_dropout import dropout
from .modeling_keywords import declares_keywords
from .modeling_layers import HfAttnLayer, build_norm, resolve_class
from .modeling_matching import MatchEmbedding
from .modeling_positions import SinusoidalPositions
from .modeling_recurrent import RecurrentMixer
from .modeling_versions import CACHE_NAME


AUTO_CLASSES = {
    "AutoModel": "HfAttnModel",
    "AutoModelForSeq2SeqLM": "HfAttnForConditionalGeneration",
    "AutoModelForQuestionAnswering": "HfAttnForQuestionAnswering",
    "AutoModelForSequenceClassification": "HfAttnForSequenceClassification",
}
"""The class of `modeling_hf_attn` behind each Auto class."""


@auto_docstring(custom_intro="The output of the encoder.")
@dataclass
class HfAttnEncoderOutput(BaseModelOutput):
    r"""
    source_ids (`torch.LongTensor` of shape `(batch_size, source_length)`, *optional*):
        With `copy_attention`: the tokens that can be copied. Beam search repeats them with the hidden states.
    """

    source_ids: torch.LongTensor | None = None


@auto_docstring(
    custom_intro="The output of the decoder, with what a head needs that copies or penalises attending twice."
)
@dataclass
class HfAttnDecoderOutput(BaseModelOutputWithPastAndCrossAttentions):
    r"""
    cross_attention_weights (`torch.FloatTensor` of shape `(batch_size, target_length, source_length)`, *optional*):
        Cross-attention of the last layer, averaged over its heads; rows sum to 1.
    inputs_embeds (`torch.FloatTensor` of shape `(batch_size, target_length, d_model)`, *optional*):
        The inputs of the decoder, scaled, without positions.
    """

    cross_attention_weights: torch.Tensor | None = None
    inputs_embeds: torch.Tensor | None = None


def check_token_ids(name: str, token_ids: torch.Tensor | None, vocab_size: int, ignored: int | None = None) -> None:
    """
    Refuses ids outside the vocabulary. Only on the CPU: elsewhere looking would stall the device.

    Raises:
        ValueError: There is an id below 0 (other than `ignored`) or at or above `vocab_size`.
    """
    if token_ids is None or token_ids.device.type != "cpu" or is_torchdynamo_compiling() or not token_ids.numel():
        return
    if ignored is not None:
        token_ids = token_ids.masked_fill(token_ids == ignored, 0)
    smallest, largest = (int(value) for value in token_ids.aminmax())
    if smallest < 0 or largest >= vocab_size:
        wrong = smallest if smallest < 0 else largest
        raise ValueError(
            f"`{name}` must hold ids in [0, `vocab_size` = {vocab_size})"
            f"{'' if ignored is None else f', or {ignored} to ignore a position'}, got {wrong}. Does the tokenizer "
            "belong to this model? After adding tokens call `model.resize_token_embeddings(len(tokenizer))`."
        )


def check_source_ids(source_ids: torch.Tensor | None, shape: torch.Size, use: str, vocab_size: int) -> None:
    """
    Refuses tokens that are not one a source position.

    Raises:
        ValueError: They are missing, or have another shape, or are outside the vocabulary; the message says what they
            are for, `use`.
    """
    if source_ids is None or source_ids.shape != shape:
        raise ValueError(
            f"`source_ids` must hold the token of each source position, for {use}: shape {tuple(shape)}, got "
            f"{None if source_ids is None else tuple(source_ids.shape)}. Pass `input_ids`, the encoder's whole output "
            "as `encoder_outputs`, or `source_ids` beside `inputs_embeds`."
        )
    check_token_ids("source_ids", source_ids, vocab_size)


def build_embedding(config: HfAttnConfig, vocab_size: int) -> nn.Embedding:
    """A table of embeddings, (vocab_size, d_model)."""
    # CODEPATH: T5 trains the embedding of its padding, by which its targets start.
    padding_idx = None if config.train_padding_embedding else config.pad_token_id
    return nn.Embedding(vocab_size, config.d_model, padding_idx)


@auto_docstring
class HfAttnPreTrainedModel(PreTrainedModel):
    """The base class of all models: abilities, initialisation, and the options that they refuse."""

    config: HfAttnConfig
    config_class = HfAttnConfig
    base_model_prefix = "model"
    # Adapters look for what is tied to the embedding only in models that have this.
    _tied_weights_keys: dict[str, str] = {}
    supports_gradient_checkpointing = True
    _no_split_modules = ["HfAttnLayer"]
    _skip_keys_device_placement = [CACHE_NAME]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    @override
    def _init_weights(self, module: nn.Module) -> None:
        """Glorot-uniform projections and embeddings of unit variance once scaled, as in Vaswani et al.'s own code."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.d_model**-0.5)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, SinusoidalPositions):
            module.init_table()
        elif isinstance(module, AdditiveAttention):
            module.init_parameters()
        elif isinstance(module, MatchEmbedding):
            init.zeros_(module.weight)
        elif isinstance(module, RecurrentMixer):
            module.init_recurrent_weights()

    @override
    def _check_and_adjust_attn_implementation(
        self, attn_implementation: str | None, *args: Any, **kwargs: Any
    ) -> str | None:
        scheme = self.config.position_embedding_type
        if self.config.positions.biases_scores and "flash" in str(attn_implementation):
            raise ValueError(
                f"`attn_implementation` = {attn_implementation!r} cannot add the bias of `position_embedding_type` = "
                f"{scheme!r} to the scores. Use 'sdpa', 'eager' or 'flex_attention'."
            )
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    @override
    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As `PreTrainedModel.save_pretrained`; the config tells every Auto class which class in the files is its."""
        class_names = {auto_class: f"modeling_hf_attn.{name}" for auto_class, name in AUTO_CLASSES.items()}
        self.config.auto_map = {"AutoConfig": "configuration_hf_attn.HfAttnConfig", **class_names}
        super().save_pretrained(save_directory, *args, **kwargs)

    @property
    @override
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        input_ids = torch.tensor([[0, 4, 5, 2], [0, 4, 2, self.config.pad_token_id]], device=self.device)
        return {"input_ids": input_ids, "attention_mask": input_ids.ne(self.config.pad_token_id)}


class HfAttnStack(HfAttnPreTrainedModel):
    """The base class of encoder and decoder: embedding, positions, layers and the last norm."""

    stack: str
    adapted_embedding: nn.Module | None

    def __init__(self, config: HfAttnConfig):
        super().__init__(config)
        num_heads = getattr(config, f"{self.stack}_attention_heads")
        self.layer_types = getattr(config, f"{self.stack}_layer_types")
        self.embed_tokens = build_embedding(config, self.vocab_size)
        # CODEPATH: T5 and BART take embeddings as they are, Marian and the presets scale them.
        self.embed_scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.positions = resolve_class(POSITION_EMBEDDING_TYPES[config.position_scheme(self.stack)].path)(
            d_model=config.d_model,
            num_heads=num_heads,
            head_dim=config.head_dim or config.d_model // num_heads,
            num_layers=len(self.layer_types),
            max_positions=config.max_positions(self.stack),
            position_offset=config.position_offset,
            bidirectional=self.stack == "encoder",
            rope_theta=config.rope_theta,
            num_buckets=config.relative_attention_num_buckets,
            max_distance=config.relative_attention_max_distance,
        )
        # CODEPATH: BART and mBART normalize the embedding.
        self.layernorm_embedding = build_norm(config) if config.normalize_embedding else None
        self.layers = nn.ModuleList(
            [HfAttnLayer(config, self.stack, layer_idx) for layer_idx in range(len(self.layer_types))]
        )
        # CODEPATH: T5 and the presets have their norms first, and so one after the last layer; BART and Marian do not.
        self.layer_norm = build_norm(config) if config.norm_position == "pre" else None
        self.dropout = config.dropout
        # CODEPATH: T5 drops what leaves a stack, too.
        self.final_dropout = config.dropout if config.dropout_after_final_norm else 0.0
        self.layerdrop = getattr(config, f"{self.stack}_layerdrop")
        # CODEPATH: Blenderbot-small normalizes the tokens alone in its decoder.
        self.norm_before_positions = self.stack == "decoder" and config.norm_before_decoder_positions
        # CODEPATH: BART's kin and Marian count padding, which matters where it stands on the left.
        self.counts_padding = config.positions_count_padding
        self.gradient_checkpointing = False
        # What stands around `shared` of the whole model, for an adapter. No child, or it would be saved twice.
        self.__dict__["adapted_embedding"] = None
        self.post_init()

    @property
    @override
    def vocab_size(self) -> int:
        """Number of tokens that the stack reads."""
        return self.config.vocab_size if self.stack == "encoder" else self.config.target_vocab_size

    @property
    def embedding(self) -> nn.Module:
        """The module that embeds tokens: `embed_tokens`, or the adapter on `shared`, whose weight it is."""
        if self.adapted_embedding is None or not isinstance(self.embed_tokens, nn.Embedding):
            return self.embed_tokens
        return self.adapted_embedding

    @override
    def init_parallel_plans(self) -> None:
        """The plans, with this stack's part of the tensor-parallel plan of the whole model."""
        super().init_parallel_plans()
        plan = self.config.base_model_tp_plan.items()
        prefix = f"{self.stack}."
        self._tp_plan = {name.removeprefix(prefix): style for name, style in plan if name.startswith(prefix)}

    def token_embeddings(
        self, input_ids: torch.LongTensor | None, inputs_embeds: torch.Tensor | None, name: str
    ) -> torch.Tensor:
        """The embeddings of `input_ids`, or `inputs_embeds` in their place, scaled: (batch, length, d_model)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError(f"Pass exactly one of `{name}input_ids` and `{name}inputs_embeds`, got both or neither.")
        if inputs_embeds is None:
            check_token_ids(f"{name}input_ids", input_ids, self.vocab_size)
            inputs_embeds = self.embedding(input_ids)
        if inputs_embeds.shape[1] == 0:
            raise ValueError(
                f"`{name}input_ids` must hold at least one token a row, got an empty sequence of shape "
                f"{tuple(inputs_embeds.shape[:2])}. Drop empty texts, or let the tokenizer end each with `eos_token`."
            )
        return inputs_embeds * self.embed_scale

    def position_ids(
        self, inputs_embeds: torch.Tensor, padding_mask: torch.Tensor | None, past_length: int | torch.Tensor
    ) -> torch.Tensor:
        """The place of each token among the real ones of its row, or among all, (batch or 1, length)."""
        length = inputs_embeds.shape[1]
        limit = self.positions.max_positions
        if limit is not None and isinstance(past_length, int) and past_length + length > limit:
            raise ValueError(
                f"The {'source' if self.stack == 'encoder' else 'target'} has {past_length + length} tokens, "
                f"`max_position_embeddings` allows {limit} with `position_embedding_type` = "
                f"{self.config.position_embedding_type!r}. Truncate it (`truncation=True, max_length={limit}` in the "
                "tokenizer), or use a model with more positions, or `rope`, `relative_bias` or `alibi`."
            )
        if self.counts_padding or padding_mask is None or padding_mask.dim() != 2:
            return (torch.arange(length, device=inputs_embeds.device) + past_length)[None]
        return (padding_mask.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -length:]

    def embed(
        self, inputs_embeds: torch.Tensor, padding_mask: torch.Tensor | None, past_length: int | torch.Tensor = 0
    ) -> tuple[torch.Tensor, Rotations | None]:
        """Hidden states that enter the first layer, and the rotations of queries and keys."""
        position_ids = self.position_ids(inputs_embeds, padding_mask, past_length)
        hidden_states = inputs_embeds
        if self.layernorm_embedding is not None and self.norm_before_positions:
            hidden_states = self.layernorm_embedding(hidden_states)
        position_embeddings = self.positions(position_ids)
        if position_embeddings is not None:
            hidden_states = hidden_states + position_embeddings.to(hidden_states.dtype)
        if self.layernorm_embedding is not None and not self.norm_before_positions:
            hidden_states = self.layernorm_embedding(hidden_states)
        hidden_states = dropout(hidden_states, p=self.dropout, training=self.training)
        return hidden_states, self.positions.rotations(position_ids)

    def self_attention_masks(
        self,
        inputs_embeds: torch.Tensor,
        padding_mask: torch.Tensor | None,
        cache: Cache | None,
        output_attentions: bool,
    ) -> dict[str, AttentionMask | None]:
        """One mask a layer type, as its mixers take it."""
        config = eager_config(self.config) if output_attentions else self.config
        is_decoder = self.stack == "decoder"
        masks: dict[str, AttentionMask | None] = {}
        for layer_idx, (layer_type, layer) in enumerate(zip(self.layer_types, self.layers, strict=True)):
            if layer_type not in masks:
                build_mask: Any = layer.mixer.build_mask
                masks[layer_type] = build_mask(config, inputs_embeds, padding_mask, cache, layer_idx, is_decoder)
        return masks

    def kept_layers(self) -> Iterator[tuple[int, HfAttnLayer, str]]:
        """Index, layer and layer type of those that run: all, or in training those that `layerdrop` leaves."""
        for layer_idx, (layer, layer_type) in enumerate(zip(self.layers, self.layer_types, strict=True)):
            drops = self.training and self.layerdrop and not layer.returns_cross_attention_weights
            if drops and bool(torch.rand([]) < self.layerdrop):
                continue
            yield layer_idx, cast(HfAttnLayer, layer), layer_type

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The output of the stack: after the last norm and its dropout, where there are such."""
        if self.layer_norm is not None:
            hidden_states = self.layer_norm(hidden_states)
        return dropout(hidden_states, p=self.final_dropout, training=self.training)


class HfAttnEncoder(HfAttnStack):
    """Reads the source: a stack of [`HfAttnLayer`]s around `encoder_layer_types`."""

    stack = "encoder"
    _can_record_outputs = {
        "hidden_states": HfAttnLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="mixer"),
    }

    def __init__(self, config: HfAttnConfig):
        super().__init__(config)
        # CODEPATH: readers of questions and contexts see what the two have in common.
        self.match_embedding = MatchEmbedding(config.d_model, config.end_token_ids) if config.match_embedding else None

    @merge_with_config_defaults
    @capture_outputs
    @auto_docstring
    @declares_keywords({"labels", "skip_logits"})  # `generate` hands on what the head takes
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        source_ids: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HfAttnEncoderOutput:
        r"""
        source_ids (`torch.LongTensor` of shape `(batch_size, source_length)`, *optional*):
            With `copy_attention` or `match_embedding`: the tokens of the source, needed beside `inputs_embeds`.
        """
        inputs_embeds = self.token_embeddings(input_ids, inputs_embeds, "")
        source_ids = input_ids if source_ids is None else source_ids
        if self.match_embedding is not None:
            check_source_ids(
                source_ids, inputs_embeds.shape[:2], "`match_embedding` to compare", self.config.vocab_size
            )
            inputs_embeds = inputs_embeds + self.embed_scale * self.match_embedding(source_ids, attention_mask)
        kwargs.setdefault("output_attentions", self.config.output_attentions)
        masks = self.self_attention_masks(inputs_embeds, attention_mask, None, bool(kwargs["output_attentions"]))
        hidden_states, rotations = self.embed(inputs_embeds, attention_mask)
        for layer_idx, layer, layer_type in self.kept_layers():
            hidden_states, _ = layer(
                hidden_states,
                masks[layer_type],
                positions=self.positions.of_layer(layer_idx),
                rotations=rotations,
                **kwargs,
            )
        # CODEPATH: pointer-generators need the tokens beside the hidden states, in generation too.
        copyable = source_ids if self.config.copy_attention else None
        return HfAttnEncoderOutput(last_hidden_state=self.finish(hidden_states), source_ids=copyable)

    def pool(self, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
        """The pooled context of a source, as the last layer's mixer pools, (batch, d_model)."""
        last_layer: Any = self.layers[-1]
        return last_layer.mixer.pool(hidden_states, padding_mask)


class HfAttnDecoder(HfAttnStack):
    """Writes the target: a stack of [`HfAttnLayer`]s around `decoder_layer_types`, each with a cross-attention."""

    stack = "decoder"
    _can_record_outputs = {
        "hidden_states": HfAttnLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="mixer"),
        "cross_attentions": OutputRecorder(Attention, index=1, layer_name="encoder_attn"),
    }

    @property
    def needs_pooling(self) -> bool:
        """Whether a layer reads the pooled context of the source."""
        return any(layer.mixer.needs_pooling or layer.encoder_attn.needs_pooling for layer in self.layers)

    def cross_attention_masks(
        self,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None,
        cache: Cache | None,
        output_attentions: bool,
    ) -> dict[bool, AttentionMask | None]:
        """
        The cross-attention masks of the layers whose weights are read, which attend eagerly (key True), and of the
        others. The steps of a generation share them, by way of the cache.
        """
        made_for = (inputs_embeds.shape, inputs_embeds.dtype, output_attentions, self.config._attn_implementation)
        # A compiled step has its masks made in the graph.
        keeper = None if is_torchdynamo_compiling() else cache
        kept = getattr(keeper, "cross_attention_masks", None)
        if kept is not None and kept[0] is padding_mask and kept[1] == made_for:
            return kept[2]
        masks: dict[bool, AttentionMask | None] = {}
        for is_eager in {bool(layer.returns_cross_attention_weights) for layer in self.layers}:
            cross_attention: Any = self.layers[0].encoder_attn
            masks[is_eager] = cross_attention.build_cross_attention_mask(
                eager_config(self.config) if is_eager or output_attentions else self.config,
                inputs_embeds,
                encoder_hidden_states,
                padding_mask,
            )
        if keeper is not None:
            keeper.cross_attention_masks = padding_mask, made_for, masks  # type: ignore[attr-defined]
        return masks

    @merge_with_config_defaults
    @capture_outputs
    @auto_docstring
    @declares_keywords()
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.LongTensor | None = None,
        pooled_context: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HfAttnDecoderOutput:
        r"""
        pooled_context (`torch.Tensor` of shape `(batch_size, d_model)`, *optional*):
            The pooled source, from which recurrent layers start.
        """
        inputs_embeds = self.token_embeddings(input_ids, inputs_embeds, "decoder_")
        source_length = None if encoder_hidden_states is None else encoder_hidden_states.shape[1]
        self_attention_cache = None
        past_length = 0
        if use_cache and cache is None:
            cache = build_cache(self.config)
        if cache is not None:
            cache = adapt_cache(cache, self.config, source_length)
            self_attention_cache = cache.self_attention_cache
            past_length = self_attention_cache.get_seq_length()

        kwargs.setdefault("output_attentions", self.config.output_attentions)
        output_attentions = bool(kwargs["output_attentions"])
        masks = self.self_attention_masks(inputs_embeds, attention_mask, self_attention_cache, output_attentions)
        cross_attention_masks: dict[bool, AttentionMask | None] = {}
        if encoder_hidden_states is not None:
            cross_attention_masks = self.cross_attention_masks(
                inputs_embeds, encoder_hidden_states, encoder_attention_mask, cache, output_attentions
            )
        hidden_states, rotations = self.embed(inputs_embeds, attention_mask, past_length)
        cross_attention_weights = None
        for layer_idx, layer, layer_type in self.kept_layers():
            hidden_states, cross_attention_weights = layer(
                hidden_states,
                masks[layer_type],
                encoder_hidden_states,
                pooled_context,
                cross_attention_mask=cross_attention_masks.get(bool(layer.returns_cross_attention_weights)),
                **{CACHE_NAME: cache},  # named as gradient checkpointing knows it
                positions=self.positions.of_layer(layer_idx),
                rotations=rotations,
                **kwargs,
            )
        return HfAttnDecoderOutput(
            last_hidden_state=self.finish(hidden_states),
            **{CACHE_NAME: cache},  # type: ignore[arg-type]
            cross_attention_weights=cross_attention_weights,
            inputs_embeds=None if cross_attention_weights is None else inputs_embeds,
        )


__all__ = ["AUTO_CLASSES", "HfAttnDecoder", "HfAttnEncoder", "HfAttnPreTrainedModel", "HfAttnStack"]
