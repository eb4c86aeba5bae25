# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""The state that generation carries: attention keys and values, and the states of recurrent and linear layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from transformers.cache_utils import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    STATIC_LAYER_TYPE_MAPPING,
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    EncoderDecoderCache,
    StaticLayer,
)
from transformers.utils import is_torchdynamo_compiling
from typing_extensions import override

from .configuration_hf_attn import STATE_CACHE, HfAttnConfig
from .modeling_versions import CACHE_NAME


class RecurrentCacheLayer(CacheLayerMixin):
    """
    The state of one layer whose memory does not grow with the sequence: a tuple of tensors, batch first.

    A state cannot be rolled back, so `crop` refuses and decoding methods that need it (assisted generation, prompt
    lookup) are not available.
    """

    is_croppable = False
    is_sliding = False
    supports_early_init = False

    def __init__(self, **kwargs: Any):
        super().__init__()
        self.states: tuple[torch.Tensor, ...] | None = None
        self.cumulative_length: Any = 0  # tokens seen: an int, or a tensor where addresses must stay

    def update_states(self, states: tuple[torch.Tensor, ...], num_new_tokens: int) -> None:
        """Replaces the state by `states`, the one after `num_new_tokens` further tokens."""
        self.states = states
        self.is_initialized = True
        self.cumulative_length += num_new_tokens

    @override
    def get_seq_length(self) -> int:
        return self.cumulative_length

    @override
    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cumulative_length + query_length, 0

    @override
    def get_max_length(self) -> int:
        return -1

    @override
    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise TypeError("A recurrent cache layer holds no keys and values; its layer calls `update_states`.")

    @override
    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("A recurrent cache layer holds no keys and values; its layer calls `update_states`.")

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove != 0:
            raise ValueError(
                "A recurrent or linear-attention state cannot be cropped: it holds no past to return to. Decode "
                "without `assistant_model` and `prompt_lookup_num_tokens`, or use attention layers in the decoder."
            )

    def _apply(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        if self.states is not None:
            self.states = tuple(function(state) for state in self.states)

    @override
    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self._apply(lambda state: state.index_select(0, beam_idx.to(state.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._apply(lambda state: state.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._apply(lambda state: state[indices, ...])

    @override
    def offload(self) -> None:
        self._apply(lambda state: state.to("cpu", non_blocking=True))

    @override
    def prefetch(self) -> None:
        """Nothing to do: a layer moves its state to the device of its input, and a state is small."""

    @override
    def reset(self) -> None:
        self.states = None
        self.is_initialized = False
        self.cumulative_length = 0


class StaticRecurrentCacheLayer(RecurrentCacheLayer):
    """A `RecurrentCacheLayer` whose tensors keep their addresses, as a compiled decoding step needs them."""

    is_compileable = True

    def __init__(self, max_cache_len: int, **kwargs: Any):
        super().__init__()
        self.max_cache_len = max_cache_len
        self.cumulative_length = torch.tensor(0, dtype=torch.long)

    @override
    def update_states(self, states: tuple[torch.Tensor, ...], num_new_tokens: int) -> None:
        if self.states is None:
            self.states = tuple(torch.empty_like(state) for state in states)
            self.cumulative_length = self.cumulative_length.to(states[0].device)
            if not is_torchdynamo_compiling():
                for tensor in (*self.states, self.cumulative_length):
                    torch._dynamo.mark_static_address(tensor)
        for state, new_state in zip(self.states, states, strict=True):
            state.copy_(new_state)
        self.is_initialized = True
        self.cumulative_length.add_(num_new_tokens)

    @override
    def get_seq_length(self) -> int:
        return self.cumulative_length if self.is_initialized else 0

    @override
    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.max_cache_len, 0

    @override
    def get_max_length(self) -> int:
        return self.max_cache_len

    @override
    def reset(self) -> None:
        self.states = None
        self.is_initialized = False
        self.cumulative_length.zero_()


# `generate` builds caches from the layer types of `HfAttnConfig.get_text_config(decoder=True)`.
DYNAMIC_LAYER_TYPE_MAPPING[STATE_CACHE] = RecurrentCacheLayer
STATIC_LAYER_TYPE_MAPPING[STATE_CACHE] = StaticRecurrentCacheLayer


def build_cache(config: HfAttnConfig) -> EncoderDecoderCache:
    """An empty cache for the decoder of `config`."""
    return EncoderDecoderCache(DynamicCache(config=config), DynamicCache())


def adapt_cache(cache: Cache, config: HfAttnConfig, source_length: int | None = None) -> EncoderDecoderCache:
    """
    Makes a cache that was built elsewhere fit: `generate` gives the source a sliding window where the decoder has one,
    and a `DynamicCache()` knows nothing of states. Layers that fit stay as they are.

    Args:
        cache (`Cache`): An `EncoderDecoderCache`, or a cache for the decoder's own layers.
        config (`HfAttnConfig`): Names the layers.
        source_length (`int`, *optional*): Tokens of the source, the size of a static cross-attention cache.

    Returns:
        `EncoderDecoderCache`: The same object where it was one.

    Raises:
        ValueError: A layer that needs a state has a cache of another kind that is in use.
    """
    if not isinstance(cache, EncoderDecoderCache):
        cache = EncoderDecoderCache(cache, DynamicCache())
    self_attention_layers = cache.self_attention_cache.layers
    cross_attention_layers = cache.cross_attention_cache.layers
    while len(self_attention_layers) < config.decoder_layers:
        self_attention_layers.append(DynamicLayer())
    for layer_idx, cache_type in enumerate(config.cache_layer_types):
        layer = self_attention_layers[layer_idx]
        if cache_type == STATE_CACHE and not isinstance(layer, RecurrentCacheLayer):
            if layer.is_initialized:
                raise ValueError(
                    f"`{CACHE_NAME}` holds keys and values for decoder layer {layer_idx}, a "
                    f"`{config.decoder_layer_types[layer_idx]}`, which keeps a state. Build it with "
                    "`DynamicCache(config=model.config)`, or let the model build it."
                )
            self_attention_layers[layer_idx] = RecurrentCacheLayer()
    for layer_idx, layer in enumerate(cross_attention_layers):
        if isinstance(layer, (StaticLayer, StaticRecurrentCacheLayer)) and type(layer) is not StaticLayer:
            cross_attention_layers[layer_idx] = StaticLayer(max_cache_len=source_length or layer.max_cache_len)
        elif type(layer) not in (DynamicLayer, StaticLayer):
            cross_attention_layers[layer_idx] = DynamicLayer()
    return cache
