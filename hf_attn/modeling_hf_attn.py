# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""The encoder-decoder, its heads, and their losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.generation import GenerationConfig, GenerationMixin, GenerationMode
from transformers.modeling_outputs import (
    BaseModelOutput,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    Seq2SeqSequenceClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import (
    TransformersKwargs,
    auto_docstring,
    can_return_tuple,
    is_torchdynamo_compiling,
)
from typing_extensions import override

from .configuration_hf_attn import HfAttnConfig
from .configuration_mechanisms import LAYER_TYPES
from .modeling_cache import adapt_cache
from .modeling_copy import CopiedTokens, CopyHead, chunked_mixture_loss, coverage_loss, mixture_log_probabilities
from .modeling_keywords import declares_keywords
from .modeling_loss import IGNORE_INDEX, chunked_sequence_loss, classification_loss, sequence_loss, span_loss
from .modeling_stacks import (
    AUTO_CLASSES,
    HfAttnDecoder,
    HfAttnEncoder,
    HfAttnPreTrainedModel,
    build_embedding,
    check_source_ids,
    check_token_ids,
)
from .modeling_versions import CACHE_NAME, take_either_name


@auto_docstring(custom_intro="The output of the encoder-decoder.")
@dataclass
class HfAttnModelOutput(Seq2SeqModelOutput):
    r"""
    cross_attention_weights (`torch.FloatTensor` of shape `(batch_size, target_length, source_length)`, *optional*):
        As in [`HfAttnDecoderOutput`].
    decoder_inputs_embeds (`torch.FloatTensor` of shape `(batch_size, target_length, d_model)`, *optional*):
        The inputs of the decoder, scaled, without positions.
    """

    cross_attention_weights: torch.Tensor | None = None
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


@auto_docstring
class HfAttnModel(HfAttnPreTrainedModel):
    """The encoder-decoder without a head: hidden states of the target."""

    _tied_weights_keys = {
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }

    def __init__(self, config: HfAttnConfig):
        super().__init__(config)
        self.shared = None
        # CODEPATH: Marian models of two scripts, and whatever was saved untied, have a table a stack.
        if config.share_encoder_decoder_embeddings:
            self.shared = build_embedding(config, config.vocab_size)
        else:
            self._tied_weights_keys = {}
        self.encoder = HfAttnEncoder(config)
        self.decoder = HfAttnDecoder(config)
        self.post_init()

    @override
    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Whether source and target share one table is not what `tie_word_embeddings` says: the output projection."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys)

    @override
    def get_input_embeddings(self) -> nn.Module:
        """Of source and target, or where each has its own, of the source."""
        return self.encoder.embed_tokens if self.shared is None else self.shared

    @override
    def set_input_embeddings(self, value: Any) -> None:
        """As `get_input_embeddings`."""
        if self.shared is None:
            self.encoder.embed_tokens = value
            return
        self.shared = value
        self.encoder.embed_tokens = self.shared
        self.decoder.embed_tokens = self.shared

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        """As `nn.Module.__setattr__`; what is put around `shared` for an adapter is handed on to the stacks."""
        super().__setattr__(name, value)
        if name == "shared":
            for stack in filter(None, map(self._modules.get, ("encoder", "decoder"))):
                stack.__dict__["adapted_embedding"] = None if isinstance(value, nn.Embedding) else value

    def check_embeddings(self) -> None:
        """
        Refuses an adapter on `shared` that leaves the stacks another weight.

        Raises:
            ValueError: `shared` is wrapped and no longer has the weight that it is tied to.
        """
        adapted, embed_tokens = self.encoder.adapted_embedding, self.encoder.embed_tokens
        if adapted is self.encoder.embedding and adapted.weight is not embed_tokens.weight:
            raise ValueError(
                f"`shared` alone is wrapped, in {type(self.shared).__name__}, and has another weight than "
                "`embed_tokens` of the stacks: merging would lose it. Use a LoRA with `shared` among its "
                '`target_modules`, or `modules_to_save=["embed_tokens", "lm_head"]`, or `trainable_token_indices` '
                "with `tie_word_embeddings` = True."
            )

    @can_return_tuple
    @auto_docstring
    @declares_keywords()
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        cache: Cache | None = None,
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
        self.check_embeddings()
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            # CODEPATH: models with two vocabularies.
            if self.config.decoder_vocab_size is not None:
                raise ValueError(
                    "The decoder would read `input_ids`, and has a vocabulary of its own (`decoder_vocab_size`). "
                    "Pass `decoder_input_ids`, `decoder_inputs_embeds` or (for a loss) `labels`."
                )
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
                return_dict=True,
                **kwargs,
            )
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs)  # type: ignore[arg-type]

        pooled_context = None
        if self.decoder.needs_pooling:
            pooled_context = self.encoder.pool(encoder_outputs[0], attention_mask)
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=attention_mask,
            pooled_context=pooled_context,
            cache=cache,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        return HfAttnModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            **{CACHE_NAME: getattr(decoder_outputs, CACHE_NAME)},
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
            cross_attention_weights=decoder_outputs.cross_attention_weights,
            decoder_inputs_embeds=decoder_outputs.inputs_embeds,
        )


def model_outputs(outputs: HfAttnModelOutput) -> dict[str, Any]:
    """The outputs of the model below a head that every head hands on."""
    names = (
        f"{CACHE_NAME} decoder_hidden_states decoder_attentions cross_attentions encoder_last_hidden_state "
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
        self.lm_head = nn.Linear(config.d_model, config.target_vocab_size, bias=config.logits_bias)
        # CODEPATH: models with a table a stack.
        if not config.share_encoder_decoder_embeddings:
            self._tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
        # CODEPATH: T5 where its output projection is its embedding.
        self.output_scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
        # CODEPATH: pointer-generators (See et al. 2017); no imported family copies.
        self.copy_head = CopyHead(config.d_model) if config.copy_attention else None
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Decoder inputs for `labels`, in which -100 is padding; collators call it."""
        return shift_tokens_right(
            labels, labels != IGNORE_INDEX, self.config.pad_token_id, self.config.decoder_start_token_id
        )

    @override
    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """
        As `PreTrainedModel.resize_token_embeddings`. Of a model with two vocabularies it is that of the source which
        grows; the other's is `resize_decoder_token_embeddings`, as in Marian.
        """
        # CODEPATH: models with a table a stack.
        if self.config.share_encoder_decoder_embeddings or new_num_tokens is None:
            return super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        embedding = self.model.resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        # CODEPATH: tables of one vocabulary grow together.
        if self.config.decoder_vocab_size is None:
            self.resize_decoder_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        return embedding

    def resize_decoder_token_embeddings(
        self, new_num_tokens: int, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """
        Adds rows for new tokens to the target's table and to the output projection, or drops the last ones.

        Args:
            new_num_tokens (`int`): Tokens of the target's vocabulary.
            pad_to_multiple_of, mean_resizing: As in `PreTrainedModel.resize_token_embeddings`.

        Returns:
            `nn.Embedding`: The target's table.

        Raises:
            ValueError: Source and target share one table.
        """
        # CODEPATH: models with a table a stack.
        if self.config.share_encoder_decoder_embeddings:
            raise ValueError(
                "`resize_decoder_token_embeddings` is for models whose target has a table of its own; this one's is "
                "shared (`share_encoder_decoder_embeddings` is True). Call `resize_token_embeddings`."
            )
        decoder = self.model.decoder
        embedding = self._get_resized_embeddings(
            decoder.embed_tokens, new_num_tokens, pad_to_multiple_of, mean_resizing
        )
        self.lm_head = self._get_resized_lm_head(self.lm_head, embedding.num_embeddings, mean_resizing=mean_resizing)
        decoder.embed_tokens = embedding
        # CODEPATH: models with two vocabularies.
        if self.config.decoder_vocab_size is not None:
            self.config.decoder_vocab_size = embedding.num_embeddings
        self.tie_weights()
        return embedding

    @staticmethod
    def create_masks_for_generate(
        config: HfAttnConfig,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor | None:
        """Leaves the masks to the decoder, which builds one for each type of its layers."""
        return attention_mask

    @override
    def _prepare_generation_config(self, generation_config: GenerationConfig | None, **kwargs: Any) -> Any:
        take_either_name(kwargs, CACHE_NAME)
        return super()._prepare_generation_config(generation_config, **kwargs)  # type: ignore[misc]

    @override
    def _validate_generation_mode(
        self,
        generation_mode: GenerationMode,
        generation_config: GenerationConfig,
        generation_mode_kwargs: dict[str, Any],
    ) -> None:
        assistant = generation_mode_kwargs.get("assistant_model", self)
        layer_types = {*self.config.decoder_layer_types, *getattr(assistant.config, "decoder_layer_types", ())}
        stateful = {name for name in layer_types if LAYER_TYPES[name].carries_state}
        if generation_mode == GenerationMode.ASSISTED_GENERATION and stateful:
            raise ValueError(
                "`assistant_model` and `prompt_lookup_num_tokens` need a decoder whose cache can drop rejected "
                f"tokens, and the state of `{'`, `'.join(sorted(stateful))}` layers holds no past to return to. "
                "Generate without them, or use `full_attention` or `sliding_attention` in the decoder."
            )
        if generation_config.prefill_chunk_size is not None:
            # transformers would cut the mask of the source at the ends of the prompt's chunks.
            raise ValueError(
                "`prefill_chunk_size` must be None for an encoder-decoder, got "
                f"{generation_config.prefill_chunk_size}. Leave it out: the decoder reads its prompt at once."
            )
        super()._validate_generation_mode(generation_mode, generation_config, generation_mode_kwargs)  # type: ignore[misc]

    @override
    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)  # type: ignore[misc]
        cache = model_kwargs.get(CACHE_NAME)
        if cache is not None:
            source_length = model_kwargs["encoder_outputs"].last_hidden_state.shape[1]
            model_kwargs[CACHE_NAME] = adapt_cache(cache, self.config, source_length)

    def adapted_projection(self) -> torch.Tensor | None:
        """
        Weight `(vocab_size, d_model)` of the output projection with what an adapter of the embedding that it is tied
        to adds; `None` where there is none. As in `nn.Embedding`, the row of the padding token gets no gradient.

        Raises:
            ValueError: The output projection is wrapped too.
        """
        embedding = self.model.decoder.adapted_embedding
        if embedding is None or not self.config.tie_word_embeddings or embedding is not self.model.decoder.embedding:
            return None
        if type(self.lm_head) is not nn.Linear:
            raise ValueError(
                f"`shared` has an adapter, and `lm_head`, which is tied to it, is {type(self.lm_head).__name__}: one "
                "weight cannot have both. Leave `lm_head` out of `target_modules`; it has what `shared` has."
            )
        # Its `weight` would be that of the layer below it.
        return embedding(torch.arange(self.config.target_vocab_size, device=self.lm_head.weight.device))

    def copied_tokens(
        self,
        outputs: HfAttnModelOutput,
        source_ids: torch.LongTensor | None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None,
        input_ids: torch.LongTensor | None,
    ) -> CopiedTokens | None:
        """The tokens to copy, of the first of the three that has source ids; `None` without `copy_attention`."""
        if self.copy_head is None:
            return None
        if source_ids is None:
            source_ids = getattr(encoder_outputs, "source_ids", None)
        if source_ids is None:
            source_ids = input_ids
        source_shape = outputs.encoder_last_hidden_state.shape[:2]
        check_source_ids(source_ids, source_shape, "`copy_attention` to copy", self.config.vocab_size)
        return self.copy_head(
            outputs.last_hidden_state,
            outputs.decoder_inputs_embeds,
            outputs.encoder_last_hidden_state,
            outputs.cross_attention_weights,
            source_ids.to(outputs.cross_attention_weights.device),
        )

    @can_return_tuple
    @auto_docstring
    @declares_keywords()
    def forward(  # type: ignore[misc]
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        cache: Cache | None = None,
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
            check_token_ids("labels", labels, self.config.target_vocab_size, ignored=IGNORE_INDEX)
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
            if decoder_attention_mask is None and decoder_input_ids is not None:
                decoder_attention_mask = left_padding_mask(
                    decoder_input_ids,
                    labels.to(decoder_input_ids.device),
                    self.config.pad_token_id,
                    self.config.decoder_start_token_id,
                )

        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            cache=cache,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            source_ids=source_ids,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        if self.output_scale != 1.0:
            hidden_states = hidden_states * self.output_scale
        copied = self.copied_tokens(outputs, source_ids, encoder_outputs, input_ids)
        loss = logits = None
        adapted = self.adapted_projection()
        # An output projection that is wrapped (an adapter, quantisation) has no weight that says what it computes.
        if skip_logits and labels is not None and type(self.lm_head) is nn.Linear:
            projection = hidden_states, self.lm_head.weight if adapted is None else adapted, self.lm_head.bias
            targets = labels, num_items_in_batch, self.config.label_smoothing
            if copied is None:
                loss = chunked_sequence_loss(*projection, *targets)
            else:
                loss = chunked_mixture_loss(*projection, copied, *targets)
        else:
            if adapted is None:
                logits = self.lm_head(hidden_states)
            else:
                logits = nn.functional.linear(hidden_states, adapted, self.lm_head.bias)
            if copied is not None:
                logits = mixture_log_probabilities(logits, copied)
            if labels is not None:
                loss = sequence_loss(logits, labels, num_items_in_batch, self.config.label_smoothing)
        # CODEPATH: pointer-generators with coverage (See et al. 2017).
        if labels is not None and loss is not None and self.config.coverage_loss_weight:
            coverage = coverage_loss(outputs.cross_attention_weights, labels, num_items_in_batch)
            loss = loss + self.config.coverage_loss_weight * coverage
        return Seq2SeqLMOutput(loss=loss, logits=logits, **model_outputs(outputs))


def left_padding_mask(
    decoder_input_ids: torch.Tensor, labels: torch.Tensor, pad_token_id: int, decoder_start_token_id: int
) -> torch.Tensor | None:
    """
    Marks what follows the padding at the start of a row; `None` where no row starts with any.

    Padding is read and not to be predicted: an ignored label alone leaves its position to be attended to.
    """
    is_padding = (decoder_input_ids == pad_token_id) & (labels == IGNORE_INDEX)
    if pad_token_id == decoder_start_token_id:
        # The last of them starts the sequence.
        is_padding = is_padding & (decoder_input_ids.roll(-1, dims=-1) == pad_token_id)
    if not is_torchdynamo_compiling() and not bool(is_padding[:, 0].any()):
        return None
    return (~is_padding).cumsum(dim=-1) > 0


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
    @declares_keywords()
    def forward(  # type: ignore[misc]
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
        num_items_in_batch: int | torch.Tensor | None = None,
        source_ids: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | Seq2SeqQuestionAnsweringModelOutput:
        r"""
        decoder_input_ids (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            Indices of decoder input tokens, as many as of the source; by default `input_ids` shifted by one place.
        decoder_attention_mask (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            1 at real decoder tokens, 0 at padding.
        use_cache (`bool`, *optional*, defaults to `False`):
            Whether to return the keys and values of the decoder; nothing here reads them again.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*):
            Rows in the whole optimizer step, by which the summed loss is divided; see [`span_loss`].
        source_ids (`torch.LongTensor` of shape `(batch_size, source_sequence_length)`, *optional*):
            With `match_embedding`: the tokens of the source, needed beside `inputs_embeds`.
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
            use_cache=bool(use_cache),
            source_ids=source_ids,
            return_dict=True,
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
        if start_positions is not None and end_positions is not None:
            loss = span_loss(start_logits, end_logits, start_positions, end_positions, num_items_in_batch)
        return Seq2SeqQuestionAnsweringModelOutput(
            loss=loss, start_logits=start_logits, end_logits=end_logits, **model_outputs(outputs)
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
    @declares_keywords()
    def forward(  # type: ignore[misc]
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
        num_items_in_batch: int | torch.Tensor | None = None,
        source_ids: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | Seq2SeqSequenceClassifierOutput:
        r"""
        decoder_input_ids (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            Indices of decoder input tokens; by default `input_ids` shifted by one place.
        decoder_attention_mask (`torch.LongTensor` of shape `(batch_size, target_sequence_length)`, *optional*):
            1 at real decoder tokens, 0 at padding.
        labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
            Classes in `[0, num_labels)`, or targets of a regression when `num_labels` is 1, or for each class whether
            it is one; see [`classification_loss`].
        use_cache (`bool`, *optional*, defaults to `False`):
            Whether to return the keys and values of the decoder; nothing here reads them again.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*):
            Labels in the whole optimizer step, by which the summed loss is divided.
        source_ids (`torch.LongTensor` of shape `(batch_size, source_sequence_length)`, *optional*):
            With `match_embedding`: the tokens of the source, needed beside `inputs_embeds`.
        """
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=bool(use_cache),
            source_ids=source_ids,
            return_dict=True,
            **kwargs,
        )
        reads_source = decoder_input_ids is None and decoder_inputs_embeds is None
        real = attention_mask if reads_source else decoder_attention_mask
        pooled = last_real_position(outputs.last_hidden_state, real)
        logits = self.score(self.dropout(pooled))
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, self.config, num_items_in_batch)
        return Seq2SeqSequenceClassifierOutput(loss=loss, logits=logits, **model_outputs(outputs))


def last_real_position(hidden_states: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
    """The hidden state of the last position of each row that is no padding, (batch, d_model)."""
    if padding_mask is None:
        return hidden_states[:, -1]
    indices = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    last = (indices * padding_mask.to(hidden_states.device)).argmax(dim=-1)
    return hidden_states[torch.arange(len(last), device=last.device), last]


# At import, so that models loaded from remote code are saved with their code again.
HfAttnConfig.register_for_auto_class()
for auto_class, name in AUTO_CLASSES.items():
    globals()[name].register_for_auto_class(auto_class)


__all__ = [
    "HfAttnForConditionalGeneration",
    "HfAttnForQuestionAnswering",
    "HfAttnForSequenceClassification",
    "HfAttnModel",
    "HfAttnPreTrainedModel",
]
