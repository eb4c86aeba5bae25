# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""The model family: stacks, the encoder-decoder, its heads, and the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.generation import GenerationMixin, GenerationMode
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    Seq2SeqSequenceClassifierOutput,
)
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import (
    TransformersKwargs,
    auto_docstring,
    can_return_tuple,
    is_torchdynamo_compiling,
    logging,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_hf_attn import LAYER_TYPES, POSITION_EMBEDDING_TYPES, HfAttnConfig
from .modeling_attention import AdditiveAttention, Attention, eager_config
from .modeling_cache import adapt_cache, build_cache
from .modeling_copy import CopiedTokens, CopyHead, chunked_mixture_loss, coverage_loss, mixture_log_probabilities
from .modeling_layers import HfAttnLayer, build_norm, dropout, mechanism
from .modeling_loss import IGNORE_INDEX, chunked_sequence_loss, sequence_loss
from .modeling_matching import MatchEmbedding
from .modeling_positions import SinusoidalPositions, sinusoids
from .modeling_recurrent import RecurrentMixer


logger = logging.get_logger(__name__)


@auto_docstring(custom_intro="What the encoder returns.")
@dataclass
class HfAttnEncoderOutput(BaseModelOutput):
    r"""
    source_ids (`torch.LongTensor` of shape `(batch_size, source_length)`, *optional*):
        With `copy_attention`: the tokens that can be copied. Beam search repeats them with the hidden states.
    """

    source_ids: torch.LongTensor | None = None


@auto_docstring(
    custom_intro="What the decoder returns, with what a head needs that copies or penalises attending twice."
)
@dataclass
class HfAttnDecoderOutput(BaseModelOutputWithPastAndCrossAttentions):
    r"""
    source_weights (`torch.FloatTensor` of shape `(batch_size, target_length, source_length)`, *optional*):
        Cross-attention of the last layer, averaged over its heads; rows sum to 1.
    inputs_embeds (`torch.FloatTensor` of shape `(batch_size, target_length, d_model)`, *optional*):
        What the decoder read, scaled, without positions.
    """

    source_weights: torch.Tensor | None = None
    inputs_embeds: torch.Tensor | None = None


@auto_docstring(custom_intro="What the encoder-decoder returns.")
@dataclass
class HfAttnModelOutput(Seq2SeqModelOutput):
    r"""
    source_weights (`torch.FloatTensor` of shape `(batch_size, target_length, source_length)`, *optional*):
        As in [`HfAttnDecoderOutput`].
    decoder_inputs_embeds (`torch.FloatTensor` of shape `(batch_size, target_length, d_model)`, *optional*):
        What the decoder read, scaled, without positions.
    """

    source_weights: torch.Tensor | None = None
    decoder_inputs_embeds: torch.Tensor | None = None


def shift_tokens_right(
    token_ids: torch.Tensor, real: torch.Tensor, pad_token_id: int, decoder_start_token_id: int
) -> torch.Tensor:
    """
    Decoder inputs that predict `token_ids`: each token one place to the right, the start token at the first real one.

    Args:
        token_ids (`torch.Tensor`): (batch, length).
        real (`torch.Tensor`): bool (batch, length), False at padding, which may be on either side.

    Returns:
        `torch.Tensor`: (batch, length).
    """
    previous = torch.where(real, token_ids, pad_token_id).roll(1, dims=-1)
    before_start = real.cumsum(-1) == real.long()  # up to and including the first real token
    shifted = torch.where(before_start & ~real, pad_token_id, previous)
    return torch.where(before_start & real, decoder_start_token_id, shifted)


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


def check_source_ids(source_ids: torch.Tensor | None, shape: torch.Size, use: str) -> None:
    """
    Refuses tokens that are not one a source position.

    Raises:
        ValueError: They are missing, or have another shape; the message says what they are for, `use`.
    """
    if source_ids is None or source_ids.shape != shape:
        raise ValueError(
            f"`source_ids` must hold the token of each source position, for {use}: shape {tuple(shape)}, got "
            f"{None if source_ids is None else tuple(source_ids.shape)}. Pass `input_ids`, the encoder's whole output "
            "as `encoder_outputs`, or `source_ids` beside `inputs_embeds`."
        )


@auto_docstring
class HfAttnPreTrainedModel(PreTrainedModel):
    """What all models of the family share: abilities, initialisation, what they refuse."""

    config: HfAttnConfig
    config_class = HfAttnConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["HfAttnLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module):
        """Glorot-uniform projections and embeddings of unit variance once scaled, as in Vaswani et al.'s own code."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.d_model**-0.5)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, SinusoidalPositions):
            init.copy_(module.table, sinusoids(*module.table.shape))
        elif isinstance(module, AdditiveAttention):
            module.init_parameters()
        elif isinstance(module, MatchEmbedding):
            init.zeros_(module.weight)
        elif isinstance(module, RecurrentMixer):
            module.init_recurrent_weights()

    def _check_and_adjust_attn_implementation(self, attn_implementation, *args, **kwargs):
        scheme = self.config.position_embedding_type
        if scheme in ("relative_bias", "alibi") and "flash" in str(attn_implementation):
            raise ValueError(
                f"`attn_implementation` = {attn_implementation!r} cannot add the bias of `position_embedding_type` = "
                f"{scheme!r} to the scores. Use 'sdpa', 'eager' or 'flex_attention'."
            )
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As `PreTrainedModel.save_pretrained`; the config tells every Auto class which class in the files is its."""
        class_names = {name: f"modeling_hf_attn.{model_class.__name__}" for name, model_class in AUTO_CLASSES.items()}
        self.config.auto_map = {"AutoConfig": "configuration_hf_attn.HfAttnConfig", **class_names}
        super().save_pretrained(save_directory, *args, **kwargs)

    @property
    def dummy_inputs(self):
        input_ids = torch.tensor([[0, 4, 5, 2], [0, 4, 2, self.config.pad_token_id]], device=self.device)
        return {"input_ids": input_ids, "attention_mask": input_ids.ne(self.config.pad_token_id)}


class HfAttnStack(HfAttnPreTrainedModel):
    """What encoder and decoder share: embedding, positions, layers and the last norm."""

    stack: str

    def __init__(self, config: HfAttnConfig):
        super().__init__(config)
        num_heads = getattr(config, f"{self.stack}_attention_heads")
        self.layer_types = getattr(config, f"{self.stack}_layer_types")
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        # CODEPATH: T5 and BART take embeddings as they are, Marian and the presets scale them.
        self.embed_scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.positions = mechanism(POSITION_EMBEDDING_TYPES[config.position_scheme(self.stack)])(
            d_model=config.d_model,
            num_heads=num_heads,
            head_dim=config.head_dim or config.d_model // num_heads,
            max_positions=config.max_position_embeddings,
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
        self.gradient_checkpointing = False
        self.post_init()

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
            check_token_ids(f"{name}input_ids", input_ids, self.embed_tokens.num_embeddings)
            inputs_embeds = self.embed_tokens(input_ids)
        if inputs_embeds.shape[1] == 0:
            raise ValueError(
                f"`{name}input_ids` must hold at least one token a row, got an empty sequence of shape "
                f"{tuple(inputs_embeds.shape[:2])}. Drop empty texts, or let the tokenizer end each with `eos_token`."
            )
        return inputs_embeds * self.embed_scale

    def position_ids(
        self, inputs_embeds: torch.Tensor, padding_mask: torch.Tensor | None, past_length: int | torch.Tensor
    ) -> torch.Tensor:
        """The place of each token among the real ones of its row, (batch or 1, length)."""
        length = inputs_embeds.shape[1]
        limit = self.positions.max_positions
        if limit is not None and isinstance(past_length, int) and past_length + length > limit:
            raise ValueError(
                f"The {'source' if self.stack == 'encoder' else 'target'} has {past_length + length} tokens, "
                f"`max_position_embeddings` allows {limit} with `position_embedding_type` = "
                f"{self.config.position_embedding_type!r}. Truncate it (`truncation=True, max_length={limit}` in the "
                "tokenizer), or use a model with more positions, or `rope`, `relative_bias` or `alibi`."
            )
        if padding_mask is None or padding_mask.dim() != 2:
            return (torch.arange(length, device=inputs_embeds.device) + past_length)[None]
        return (padding_mask.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -length:]

    def embed(
        self, inputs_embeds: torch.Tensor, padding_mask: torch.Tensor | None, past_length: int | torch.Tensor = 0
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        """Hidden states that enter the first layer, and the rotations of queries and keys."""
        position_ids = self.position_ids(inputs_embeds, padding_mask, past_length)
        hidden_states = inputs_embeds
        position_embeddings = self.positions(position_ids)
        if position_embeddings is not None:
            hidden_states = hidden_states + position_embeddings.to(hidden_states.dtype)
        if self.layernorm_embedding is not None:
            hidden_states = self.layernorm_embedding(hidden_states)
        hidden_states = dropout(hidden_states, p=self.dropout, training=self.training)
        return hidden_states, self.positions.rotations(position_ids)

    def own_masks(
        self,
        inputs_embeds: torch.Tensor,
        padding_mask: torch.Tensor | None,
        past_key_values: Cache | None,
        output_attentions: bool,
    ) -> dict[str, torch.Tensor | None]:
        """One mask a layer type, as its mixers take it."""
        config = eager_config(self.config) if output_attentions else self.config
        is_decoder = self.stack == "decoder"
        masks: dict[str, torch.Tensor | None] = {}
        for layer_idx, (layer_type, layer) in enumerate(zip(self.layer_types, self.layers, strict=True)):
            if layer_type not in masks:
                build_mask: Any = layer.mixer.build_mask
                masks[layer_type] = build_mask(
                    config, inputs_embeds, padding_mask, past_key_values, layer_idx, is_decoder
                )
        return masks

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states if self.layer_norm is None else self.layer_norm(hidden_states)


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
            check_source_ids(source_ids, inputs_embeds.shape[:2], "`match_embedding` to compare")
            inputs_embeds = inputs_embeds + self.embed_scale * self.match_embedding(source_ids, attention_mask)
        kwargs.setdefault("output_attentions", self.config.output_attentions)
        masks = self.own_masks(inputs_embeds, attention_mask, None, bool(kwargs["output_attentions"]))
        hidden_states, rotations = self.embed(inputs_embeds, attention_mask)
        for layer, layer_type in zip(self.layers, self.layer_types, strict=True):
            hidden_states, _ = layer(
                hidden_states, masks[layer_type], positions=self.positions, rotations=rotations, **kwargs
            )
        # CODEPATH: pointer-generators need the tokens beside the hidden states, in generation too.
        copyable = source_ids if self.config.copy_attention else None
        return HfAttnEncoderOutput(last_hidden_state=self.finish(hidden_states), source_ids=copyable)

    def summarize(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The fixed-length view of a source that the last layer offers, (batch, d_model)."""
        last_layer: Any = self.layers[-1]
        return last_layer.mixer.summarize(hidden_states, attention_mask)


class HfAttnDecoder(HfAttnStack):
    """Writes the target: a stack of [`HfAttnLayer`]s around `decoder_layer_types`, each attending to the source."""

    stack = "decoder"
    _can_record_outputs = {
        "hidden_states": HfAttnLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="mixer"),
        "cross_attentions": OutputRecorder(Attention, index=1, layer_name="encoder_attn"),
    }

    @property
    def needs_summary(self) -> bool:
        """Whether a layer starts from, or sees, a summary of the source."""
        return any(layer.mixer.needs_summary or layer.encoder_attn.needs_summary for layer in self.layers)

    def source_masks(
        self,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None,
        past_key_values: Cache | None,
        output_attentions: bool,
    ) -> dict[bool, torch.Tensor | None]:
        """
        The masks of the source for the layers whose weights are read, which attend eagerly, and for the others. The
        steps of a generation share them, by way of the cache.
        """
        made_for = (inputs_embeds.shape, inputs_embeds.dtype, output_attentions, self.config._attn_implementation)
        # A compiled step has its masks made in the graph.
        keeper = None if is_torchdynamo_compiling() else past_key_values
        kept = getattr(keeper, "source_masks", None)
        if kept is not None and kept[0] is encoder_attention_mask and kept[1] == made_for:
            return kept[2]
        masks: dict[bool, torch.Tensor | None] = {}
        for is_eager in {bool(layer.returns_source_weights) for layer in self.layers}:
            cross_attention: Any = self.layers[0].encoder_attn
            masks[is_eager] = cross_attention.build_cross_mask(
                eager_config(self.config) if is_eager or output_attentions else self.config,
                inputs_embeds,
                encoder_hidden_states,
                encoder_attention_mask,
            )
        if keeper is not None:
            keeper.source_masks = encoder_attention_mask, made_for, masks  # type: ignore[attr-defined]
        return masks

    @merge_with_config_defaults
    @capture_outputs
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.LongTensor | None = None,
        initial_context: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HfAttnDecoderOutput:
        r"""
        initial_context (`torch.Tensor` of shape `(batch_size, d_model)`, *optional*):
            A summary of the source, from which recurrent layers start.
        """
        inputs_embeds = self.token_embeddings(input_ids, inputs_embeds, "decoder_")
        source_length = None if encoder_hidden_states is None else encoder_hidden_states.shape[1]
        own_cache = None
        past_length = 0
        if use_cache and past_key_values is None:
            past_key_values = build_cache(self.config)
        if past_key_values is not None:
            past_key_values = adapt_cache(past_key_values, self.config, source_length)
            own_cache = past_key_values.self_attention_cache
            past_length = own_cache.get_seq_length()

        kwargs.setdefault("output_attentions", self.config.output_attentions)
        output_attentions = bool(kwargs["output_attentions"])
        masks = self.own_masks(inputs_embeds, attention_mask, own_cache, output_attentions)
        source_masks = {}
        if encoder_hidden_states is not None:
            source_masks = self.source_masks(
                inputs_embeds, encoder_hidden_states, encoder_attention_mask, past_key_values, output_attentions
            )
        hidden_states, rotations = self.embed(inputs_embeds, attention_mask, past_length)
        source_weights = None
        for layer, layer_type in zip(self.layers, self.layer_types, strict=True):
            hidden_states, source_weights = layer(
                hidden_states,
                masks[layer_type],
                encoder_hidden_states,
                initial_context,
                encoder_attention_mask=source_masks.get(bool(layer.returns_source_weights)),
                past_key_values=past_key_values,
                positions=self.positions,
                rotations=rotations,
                **kwargs,
            )
        return HfAttnDecoderOutput(
            last_hidden_state=self.finish(hidden_states),
            past_key_values=past_key_values,
            source_weights=source_weights,
            inputs_embeds=None if source_weights is None else inputs_embeds,
        )


@auto_docstring
class HfAttnModel(HfAttnPreTrainedModel):
    """The encoder-decoder without a head: hidden states of the target."""

    _tied_weights_keys = {
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }

    def __init__(self, config: HfAttnConfig):
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        self.encoder = HfAttnEncoder(config)
        self.decoder = HfAttnDecoder(config)
        self.post_init()

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict:
        """Source and target share one embedding always; `tie_word_embeddings` speaks of the output projection."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys)

    def get_input_embeddings(self):
        return self.shared

    def set_input_embeddings(self, value):
        self.shared = value
        self.encoder.embed_tokens = self.shared
        self.decoder.embed_tokens = self.shared

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        source_ids: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | HfAttnModelOutput:
        r"""
        decoder_input_ids (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            Indices of decoder input tokens. Without them, and without `decoder_inputs_embeds`, the decoder reads
            `input_ids` shifted by one place, as in BART.
        decoder_attention_mask (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            1 at real decoder tokens, 0 at padding; the past included when there is a cache.
        source_ids (`torch.LongTensor` of shape `(batch_size, source_sequence_length)`, *optional*):
            With `copy_attention` or `match_embedding`: the tokens of the source, needed beside `inputs_embeds`.
        """
        # CODEPATH: models without `copy_attention` and `match_embedding` have no use for the tokens themselves.
        if source_ids is not None and not (self.config.copy_attention or self.config.match_embedding):
            raise ValueError(
                "`source_ids` are what can be copied or compared, and `copy_attention` and `match_embedding` are "
                "False. Leave them out."
            )
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if input_ids is None:
                raise ValueError(
                    "Without `input_ids` there is nothing for the decoder to read: pass `decoder_input_ids`, "
                    "`decoder_inputs_embeds` or (for a loss) `labels`."
                )
            if decoder_attention_mask is not None:
                raise ValueError(
                    "`decoder_attention_mask` has no effect without `decoder_input_ids` or `decoder_inputs_embeds`: "
                    "the decoder reads `input_ids`, whose padding `attention_mask` tells. Leave it out."
                )
            real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            decoder_input_ids = shift_tokens_right(
                input_ids, real.bool(), self.config.pad_token_id, self.config.decoder_start_token_id
            )
            decoder_attention_mask = attention_mask

        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                source_ids=source_ids,
                **kwargs,
            )
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs)  # type: ignore[arg-type]

        initial_context = None
        if self.decoder.needs_summary:
            initial_context = self.encoder.summarize(encoder_outputs[0], attention_mask)
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=attention_mask,
            initial_context=initial_context,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return HfAttnModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
            source_weights=decoder_outputs.source_weights,
            decoder_inputs_embeds=decoder_outputs.inputs_embeds,
        )


def source_outputs(outputs: HfAttnModelOutput) -> dict:
    """What every head hands on from the model below it."""
    names = (
        "past_key_values decoder_hidden_states decoder_attentions cross_attentions encoder_last_hidden_state "
        "encoder_hidden_states encoder_attentions"
    )
    return {name: getattr(outputs, name) for name in names.split()}


@auto_docstring(
    custom_intro="""
    The encoder-decoder with a language modeling head: translation, summarization, generative question answering.
    """
)
class HfAttnForConditionalGeneration(HfAttnPreTrainedModel, GenerationMixin):
    """The encoder-decoder that writes text."""

    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    def __init__(self, config: HfAttnConfig):
        super().__init__(config)
        self.model = HfAttnModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=config.logits_bias)
        # CODEPATH: pointer-generators (See et al. 2017); no imported family copies.
        self.copy_head = CopyHead(config.d_model) if config.copy_attention else None
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Decoder inputs for `labels`, in which -100 is padding; collators call it."""
        return shift_tokens_right(
            labels, labels != IGNORE_INDEX, self.config.pad_token_id, self.config.decoder_start_token_id
        )

    @staticmethod
    def create_masks_for_generate(config, inputs_embeds, attention_mask, past_key_values, **kwargs):
        """Leaves the masks to the decoder, which builds one for each type of its layers."""
        return attention_mask

    def _validate_generation_mode(self, generation_mode, generation_config, generation_mode_kwargs):
        stateful = {name for name in self.config.decoder_layer_types if LAYER_TYPES[name].carries_state}
        if generation_mode == GenerationMode.ASSISTED_GENERATION and stateful:
            raise ValueError(
                "`assistant_model` and `prompt_lookup_num_tokens` need a decoder whose cache can drop rejected "
                f"tokens, and the state of `{'`, `'.join(sorted(stateful))}` layers holds no past to return to. "
                "Generate without them, or use `full_attention` or `sliding_attention` in the decoder."
            )
        super()._validate_generation_mode(generation_mode, generation_config, generation_mode_kwargs)  # type: ignore[misc]

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args, **kwargs):
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)  # type: ignore[misc]
        if model_kwargs.get("past_key_values") is not None:
            source_length = model_kwargs["encoder_outputs"].last_hidden_state.shape[1]
            model_kwargs["past_key_values"] = adapt_cache(model_kwargs["past_key_values"], self.config, source_length)

    def copied_tokens(
        self,
        outputs: HfAttnModelOutput,
        source_ids: torch.LongTensor | None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None,
        input_ids: torch.LongTensor | None,
    ) -> CopiedTokens | None:
        """What can be copied from the first of the three that has source ids; `None` without `copy_attention`."""
        if self.copy_head is None:
            return None
        check_token_ids("source_ids", source_ids, self.config.vocab_size)
        if source_ids is None:
            source_ids = getattr(encoder_outputs, "source_ids", None)
        if source_ids is None:
            source_ids = input_ids
        check_source_ids(source_ids, outputs.encoder_last_hidden_state.shape[:2], "`copy_attention` to copy")
        return self.copy_head(
            outputs.last_hidden_state,
            outputs.decoder_inputs_embeds,
            outputs.encoder_last_hidden_state,
            outputs.source_weights,
            source_ids.to(outputs.source_weights.device),
        )

    @can_return_tuple
    @auto_docstring
    def forward(  # type: ignore[misc]
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        skip_logits: bool = False,
        source_ids: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | Seq2SeqLMOutput:
        r"""
        decoder_input_ids (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            Indices of decoder input tokens; made from `labels` when these are given alone.
        decoder_attention_mask (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            1 at real decoder tokens, 0 at padding; the past included when there is a cache.
        labels (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            The target, unshifted; -100 is ignored. Padding may be on either side.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*):
            Target tokens in the whole optimizer step, by which the summed loss is divided; see [`sequence_loss`].
        skip_logits (`bool`, *optional*, defaults to `False`):
            With `labels`: compute the loss without ever holding all logits, which are then `None` in the output; see
            [`chunked_sequence_loss`]. The same loss and gradients, in less time and memory.
        source_ids (`torch.LongTensor` of shape `(batch_size, source_sequence_length)`, *optional*):
            With `copy_attention` or `match_embedding`: the tokens of the source. By default those in
            `encoder_outputs`, or `input_ids`; needed beside `inputs_embeds`.
        """
        if labels is not None:
            check_token_ids("labels", labels, self.config.vocab_size, ignored=IGNORE_INDEX)
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
            if decoder_attention_mask is None:
                decoder_attention_mask = left_padding_mask(labels)

        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            source_ids=source_ids,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        copied = self.copied_tokens(outputs, source_ids, encoder_outputs, input_ids)
        loss = logits = None
        # An output projection that is wrapped (an adapter, quantisation) has no weight that says what it computes.
        if skip_logits and labels is not None and type(self.lm_head) is nn.Linear:
            projection = hidden_states, self.lm_head.weight, self.lm_head.bias
            targets = labels, num_items_in_batch, self.config.label_smoothing
            if copied is None:
                loss = chunked_sequence_loss(*projection, *targets)
            else:
                loss = chunked_mixture_loss(*projection, copied, *targets)
        else:
            logits = self.lm_head(hidden_states)
            if copied is not None:
                logits = mixture_log_probabilities(logits, copied)
            if labels is not None:
                loss = sequence_loss(logits, labels, num_items_in_batch, self.config.label_smoothing)
        # CODEPATH: pointer-generators with coverage (See et al. 2017).
        if labels is not None and loss is not None and self.config.coverage_loss_weight:
            coverage = coverage_loss(outputs.source_weights, labels, num_items_in_batch)
            loss = loss + self.config.coverage_loss_weight * coverage
        return Seq2SeqLMOutput(loss=loss, logits=logits, **source_outputs(outputs))


def left_padding_mask(labels: torch.Tensor) -> torch.Tensor | None:
    """Marks what follows the ignored labels at the start of a row; `None` where no row starts with one."""
    if not is_torchdynamo_compiling() and not bool((labels[:, 0] == IGNORE_INDEX).any()):
        return None
    return (labels != IGNORE_INDEX).cumsum(dim=-1) > 0


@auto_docstring(
    custom_intro="""
    The encoder-decoder with a span head over the source: the decoder reads the source once more, and each of its
    positions scores being the first and the last token of the answer.
    """
)
class HfAttnForQuestionAnswering(HfAttnPreTrainedModel):
    """
    The encoder-decoder that marks the answer in the source.

    As in BART, the decoder reads the source once more; a position is scored by what both stacks say of it, side by
    side, so that even fresh weights need not learn first where in the source a decoder position is. Padding is scored
    with the least number of the dtype, so that neither loss nor answer depends on it.
    """

    def __init__(self, config: HfAttnConfig):
        super().__init__(config)
        self.model = HfAttnModel(config)
        self.qa_outputs = nn.Linear(2 * config.d_model, 2)
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.LongTensor | None = None,
        end_positions: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | Seq2SeqQuestionAnsweringModelOutput:
        r"""
        decoder_input_ids (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            Indices of decoder input tokens, as many as of the source; by default `input_ids` shifted by one place.
        decoder_attention_mask (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            1 at real decoder tokens, 0 at padding.
        """
        if (start_positions is None) != (end_positions is None):
            raise ValueError(
                "`start_positions` and `end_positions` make a loss together, got only "
                f"`{'end' if start_positions is None else 'start'}_positions`."
            )
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=False if start_positions is not None else use_cache,
            **kwargs,
        )
        read, seen = outputs.last_hidden_state, outputs.encoder_last_hidden_state
        if read.shape != seen.shape:
            raise ValueError(
                "`decoder_input_ids` must have a token for each of the source, whose positions are scored, got "
                f"{read.shape[1]} for {seen.shape[1]}. Leave them out to have the decoder read the source."
            )
        logits = self.qa_outputs(torch.cat([read, seen.to(read.device)], dim=-1))
        if attention_mask is not None:
            is_padding = attention_mask[..., None].to(logits.device) == 0
            logits = logits.masked_fill(is_padding, torch.finfo(logits.dtype).min)
        start_logits, end_logits = logits.unbind(dim=-1)
        loss = None
        if start_positions is not None:
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions, **kwargs)
        return Seq2SeqQuestionAnsweringModelOutput(
            loss=loss, start_logits=start_logits, end_logits=end_logits, **source_outputs(outputs)
        )


@auto_docstring(
    custom_intro="""
    The encoder-decoder with a classification head: the decoder reads the source once more, and its last real
    position is classified.
    """
)
class HfAttnForSequenceClassification(HfAttnPreTrainedModel):
    """The encoder-decoder that names the class of the source."""

    def __init__(self, config: HfAttnConfig):
        super().__init__(config)
        self.model = HfAttnModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.score = nn.Linear(config.d_model, config.num_labels or 1)
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | Seq2SeqSequenceClassifierOutput:
        r"""
        decoder_input_ids (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            Indices of decoder input tokens; by default `input_ids` shifted by one place.
        decoder_attention_mask (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            1 at real decoder tokens, 0 at padding.
        labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Classes in `[0, num_labels)`, or targets of a regression when `num_labels` is 1.
        """
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=False if labels is not None else use_cache,
            **kwargs,
        )
        reads_source = decoder_input_ids is None and decoder_inputs_embeds is None
        real = attention_mask if reads_source else decoder_attention_mask
        pooled = last_real_position(outputs.last_hidden_state, real)
        logits = self.score(self.dropout(pooled))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return Seq2SeqSequenceClassifierOutput(loss=loss, logits=logits, **source_outputs(outputs))


def last_real_position(hidden_states: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
    """The hidden state of the last position of each row that is no padding, (batch, d_model)."""
    if padding_mask is None:
        return hidden_states[:, -1]
    indices = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    last = (indices * padding_mask.to(hidden_states.device)).argmax(dim=-1)
    return hidden_states[torch.arange(len(last), device=last.device), last]


# At import, so that models loaded from remote code are saved with their code again.
AUTO_CLASSES: dict[str, type[HfAttnPreTrainedModel]] = {
    "AutoModel": HfAttnModel,
    "AutoModelForSeq2SeqLM": HfAttnForConditionalGeneration,
    "AutoModelForQuestionAnswering": HfAttnForQuestionAnswering,
    "AutoModelForSequenceClassification": HfAttnForSequenceClassification,
}
HfAttnConfig.register_for_auto_class()
for auto_class, model_class in AUTO_CLASSES.items():
    model_class.register_for_auto_class(auto_class)


__all__ = [
    "HfAttnForConditionalGeneration",
    "HfAttnForQuestionAnswering",
    "HfAttnForSequenceClassification",
    "HfAttnModel",
    "HfAttnPreTrainedModel",
]
