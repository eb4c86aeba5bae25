# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""
The registries: a mechanism is one class and one line here, and everything else looks it up. No torch.

A package of one's own adds lines by `register_layer_type` and `register_cross_attention`.
"""

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple


class LayerType(NamedTuple):
    """
    A registry line: the class of a mixer, as `module.Class` of this package or as the class itself.

    Attributes:
        carries_state: Its cache keeps a state of fixed size in place of keys and values; it has no scores.
        has_window: It sees `sliding_window` keys, and `global_attention_tokens`.
    """

    path: str | type
    carries_state: bool = False
    has_window: bool = False


class CrossAttentionType(NamedTuple):
    """
    A registry line: the class of a cross-attention, as in `LayerType`.

    Attributes:
        projects_queries, projects_keys: Its queries and keys are projections, so that heads may have any width, and
            heads may share keys.
        has_weights: It weights source positions; what copies reads these.
        splits_heads: Heads do not meet before the output projection: tensor parallelism may part them.
    """

    path: str | type
    projects_queries: bool = True
    projects_keys: bool = True
    has_weights: bool = True
    splits_heads: bool = False


class PositionEmbeddingType(NamedTuple):
    """
    A registry line: the class of a position scheme, as in `LayerType`.

    Attributes:
        in_scores: It acts on attention scores, so that it needs layers that have some.
        biases_scores: It does so by a bias of all heads.
        even_heads: It takes numbers of a head in pairs.
        has_offset: It can take the first position for another number.
    """

    path: str | type
    in_scores: bool = False
    biases_scores: bool = False
    even_heads: bool = False
    has_offset: bool = False


LAYER_TYPES = {
    "full_attention": LayerType("modeling_attention.Attention"),
    "sliding_attention": LayerType("modeling_attention.SlidingAttention", has_window=True),
    "linear_attention": LayerType("modeling_attention.LinearAttention", carries_state=True),
    "lstm": LayerType("modeling_recurrent.LSTMMixer", carries_state=True),
    "gru": LayerType("modeling_recurrent.GRUMixer", carries_state=True),
    "rnn": LayerType("modeling_recurrent.RNNMixer", carries_state=True),
    "ssru": LayerType("modeling_recurrent.SSRUMixer", carries_state=True),
}
CROSS_ATTENTION_TYPES = {
    "scaled_dot_product": CrossAttentionType("modeling_attention.Attention", splits_heads=True),
    "additive": CrossAttentionType("modeling_attention.AdditiveAttention"),
    "dot": CrossAttentionType("modeling_attention.DotAttention", projects_queries=False, projects_keys=False),
    "general": CrossAttentionType("modeling_attention.GeneralAttention", projects_queries=False),
    "none": CrossAttentionType("modeling_attention.FixedContext", has_weights=False),
}
POSITION_EMBEDDING_TYPES = {
    "sinusoidal": PositionEmbeddingType("modeling_positions.SinusoidalPositions", has_offset=True),
    "sinusoidal_tensor2tensor": PositionEmbeddingType("modeling_positions.Tensor2TensorPositions", has_offset=True),
    "learned": PositionEmbeddingType("modeling_positions.LearnedPositions"),
    "rope": PositionEmbeddingType("modeling_positions.RotaryPositions", in_scores=True, even_heads=True),
    "relative_bias": PositionEmbeddingType("modeling_positions.RelativeBias", in_scores=True, biases_scores=True),
    "layer_relative_bias": PositionEmbeddingType(
        "modeling_positions.LayerRelativeBias", in_scores=True, biases_scores=True
    ),
    "alibi": PositionEmbeddingType("modeling_positions.AlibiPositions", in_scores=True, biases_scores=True),
    "none": PositionEmbeddingType("modeling_positions.NoPositions"),
}
NORM_TYPES = {"layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}  # of torch.nn


def nearest(name: str, known: Iterable[str]) -> str:
    """A suffix for a message, ` (did you mean ...?)`, with the known name most like `name`; empty where none is."""
    match = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean `{match[0]}`?)" if match else ""


def check_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    """
    Refuses a name that is not among those allowed.

    Raises:
        ValueError: With those that are, and the nearest of them.
    """
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}{nearest(str(value), allowed)}.")


def register_layer_type(
    name: str, mixer_class: type, *, carries_state: bool = False, has_window: bool = False
) -> None:
    """
    Adds a layer type of a package of your own: `encoder_layer_types` and `decoder_layer_types` take its name.

    A checkpoint names it, and can be loaded where it is registered.

    Args:
        name (`str`): What configs call it.
        mixer_class (`type`): With the contract of `modeling_attention.Attention` or of
            `modeling_recurrent.RecurrentMixer`.
        carries_state, has_window (`bool`): As in `LayerType`.

    Raises:
        ValueError: There is such a layer type, of another class.
    """
    _register("register_layer_type", LAYER_TYPES, name, LayerType(mixer_class, carries_state, has_window))


def register_cross_attention(
    name: str,
    attention_class: type,
    *,
    projects_queries: bool = True,
    projects_keys: bool = True,
    has_weights: bool = True,
    splits_heads: bool = False,
) -> None:
    """
    Adds a cross-attention of a package of your own: `cross_attention_type` takes its name.

    Args:
        name (`str`): What configs call it.
        attention_class (`type`): With the contract of `modeling_attention.Attention`.
        projects_queries, projects_keys, has_weights, splits_heads (`bool`): As in `CrossAttentionType`.

    Raises:
        ValueError: There is such a cross-attention, of another class.
    """
    line = CrossAttentionType(attention_class, projects_queries, projects_keys, has_weights, splits_heads)
    _register("register_cross_attention", CROSS_ATTENTION_TYPES, name, line)


def _register(function: str, registry: dict[str, Any], name: str, line: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"`name` of `{function}` must be a word, such as `minimal_gru`, got {name!r}.")
    if registry.get(name, line) != line:
        raise ValueError(f"`name` of `{function}` must not be taken by another class, got {name!r}.")
    registry[name] = line


__all__ = [
    "CROSS_ATTENTION_TYPES",
    "LAYER_TYPES",
    "NORM_TYPES",
    "POSITION_EMBEDDING_TYPES",
    "check_choice",
    "nearest",
    "register_cross_attention",
    "register_layer_type",
]
