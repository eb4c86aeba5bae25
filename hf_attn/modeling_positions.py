# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""Position schemes: how a stack learns where its tokens stand. One class each, one contract, one registry line."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn
from transformers import initialization as init
from typing_extensions import override


class NoPositions(nn.Module):
    """
    The contract of a position scheme, and the scheme `none`: order is known from causality or recurrence alone.

    A scheme acts in one of three places; the other two answer `None`.

    Args:
        d_model (`int`): Width of the hidden states.
        num_heads (`int`): Heads of the stack's self-attention.
        head_dim (`int`): Width of a head.
        max_positions (`int`): Longest sequence, in tokens, for the schemes that keep a table.
        bidirectional (`bool`): Keys may come after the query (an encoder).
        rope_theta (`float`): Base of the rotary wavelengths.
        num_buckets, max_distance (`int`): Of T5's bias: buckets of distances, and the distance, in tokens, from which
            all share one.
        num_layers (`int`, defaults to 1): Layers of the stack.
        position_offset (`int`, defaults to 0): What a sinusoid takes the first position for.
    """

    #: The scheme keeps a table, so that sequences have a longest length.
    has_table = False

    def __init__(
        self,
        *,
        d_model: int,
        num_heads: int,
        head_dim: int,
        max_positions: int,
        bidirectional: bool,
        rope_theta: float,
        num_buckets: int,
        max_distance: int,
        num_layers: int = 1,
        position_offset: int = 0,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.rope_theta = rope_theta
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.position_offset = position_offset
        self.max_positions = max_positions if self.has_table else None
        self.add_parameters(d_model, max_positions)

    def add_parameters(self, d_model: int, max_positions: int) -> None:
        """Creates the scheme's table or weights, where it has some."""

    def of_layer(self, layer_idx: int) -> NoPositions:
        """The scheme as layer `layer_idx` has it."""
        return self

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor | None:
        """Embeddings of `position_ids` (rows, length), to be added to the tokens': (rows, length, d_model)."""
        return None

    def rotations(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Cosines and sines by which queries and keys turn, each float32 (rows, length, head_dim)."""
        return None

    def score_bias(self, relative_positions: torch.Tensor) -> torch.Tensor | None:
        """The bias added to the scores of keys at `relative_positions` (key - query): float32 (num_heads, *shape)."""
        return None

    @property
    def biases_scores(self) -> bool:
        """Whether `score_bias` answers with a tensor."""
        return type(self).score_bias is not NoPositions.score_bias


class SinusoidalPositions(NoPositions):
    """
    Fixed sinusoids, sines in the first half of the channels, cosines in the second: channel j of a half turns by
    10000^(-2j / d_model) a position (Vaswani et al. 2017, section 3.5), as in transformers' Marian and Pegasus.
    """

    has_table = True

    @override
    def add_parameters(self, d_model: int, max_positions: int) -> None:
        self.table = nn.Buffer(torch.empty(max_positions, d_model), persistent=False)
        self.init_table()

    def init_table(self) -> None:
        """Fills the table, as `sinusoids` gives it from `position_offset` on."""
        table = self.sinusoids(self.position_offset + self.table.shape[0], self.table.shape[1])
        init.copy_(self.table, table[self.position_offset :])

    @staticmethod
    def sinusoids(num_positions: int, d_model: int) -> torch.Tensor:
        """The sinusoids of positions 0 to `num_positions` - 1, float32 (num_positions, d_model)."""
        channels = torch.arange(d_model, dtype=torch.float64) // 2 * 2
        angles = torch.arange(num_positions, dtype=torch.float64)[:, None] / 10000 ** (channels / d_model)
        return torch.cat((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=-1).float()

    @override
    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        return self.table[position_ids]


class Tensor2TensorPositions(SinusoidalPositions):
    """
    The sinusoids of tensor2tensor, which fairseq, Marian's own engine, M2M100 and FSMT took over: channel j of a half
    turns by 10000^(-j / (d_model / 2 - 1)) a position. In float32 throughout, as they compute them.
    """

    @staticmethod
    @override
    def sinusoids(num_positions: int, d_model: int) -> torch.Tensor:
        half = d_model // 2
        channels = torch.arange(half).float()
        frequencies = torch.exp(channels * -(math.log(10000) / (half - 1)))
        angles = torch.arange(num_positions).float()[:, None] * frequencies
        table = torch.cat((angles.sin(), angles.cos()), dim=1)
        return nn.functional.pad(table, (0, d_model - 2 * half))


class LearnedPositions(NoPositions):
    """A learned vector a position (Gehring et al. 2017, section 3.1)."""

    has_table = True

    @override
    def add_parameters(self, d_model: int, max_positions: int) -> None:
        self.embedding = nn.Embedding(max_positions, d_model)

    @override
    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(position_ids)


class RotaryPositions(NoPositions):
    """Rotary positions (Su et al. 2021, section 3.2.2, equation 15), the two halves of a head paired."""

    @override
    def rotations(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        channels = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=position_ids.device)
        frequencies = self.rope_theta ** (-channels / self.head_dim)
        angles = position_ids[..., None].float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


class RelativeBias(NoPositions):
    """T5's learned bias, one a head and bucket of distances (Raffel et al. 2020, section 2.1)."""

    @override
    def add_parameters(self, d_model: int, max_positions: int) -> None:
        self.embedding = nn.Embedding(self.num_buckets, self.num_heads)

    @override
    def score_bias(self, relative_positions: torch.Tensor) -> torch.Tensor:
        return self.embedding(self.buckets(relative_positions)).movedim(-1, 0).float()

    def buckets(self, relative_positions: torch.Tensor) -> torch.Tensor:
        """Half of the buckets hold one distance each, the other half grow logarithmically to `max_distance`."""
        num_buckets = self.num_buckets // 2 if self.bidirectional else self.num_buckets
        if self.bidirectional:
            offset = (relative_positions > 0).long() * num_buckets
            distance = relative_positions.abs()
        else:
            offset = torch.zeros_like(relative_positions)
            distance = (-relative_positions).clamp(min=0)
        exact = num_buckets // 2
        growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        logarithmic = exact + (growth * (num_buckets - exact)).long()
        return offset + torch.where(distance < exact, distance, logarithmic.clamp(max=num_buckets - 1))


class LayerRelativeBias(NoPositions):
    """`RelativeBias` with a table of its own in each layer (UMT5; Chung et al. 2023)."""

    @override
    def add_parameters(self, d_model: int, max_positions: int) -> None:
        self.layers = nn.ModuleList(
            [
                RelativeBias(
                    d_model=d_model,
                    num_heads=self.num_heads,
                    head_dim=self.head_dim,
                    max_positions=max_positions,
                    bidirectional=self.bidirectional,
                    rope_theta=self.rope_theta,
                    num_buckets=self.num_buckets,
                    max_distance=self.max_distance,
                )
                for _ in range(self.num_layers)
            ]
        )

    @override
    def of_layer(self, layer_idx: int) -> NoPositions:
        return cast(NoPositions, self.layers[layer_idx])


class AlibiPositions(NoPositions):
    """A fixed penalty linear in the distance, its slope geometric in the head (Press et al. 2022, section 3)."""

    @override
    def score_bias(self, relative_positions: torch.Tensor) -> torch.Tensor:
        heads = torch.arange(1, self.num_heads + 1, dtype=torch.float32, device=relative_positions.device)
        slopes = 2 ** (-8 * heads / self.num_heads)
        return -slopes.view(-1, *[1] * relative_positions.dim()) * relative_positions.abs()


def rotate(states: torch.Tensor, rotations: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Turns `states` (rows, heads, length, head_dim) by `RotaryPositions.rotations`, computed in float32."""
    cosines, sines = (rotation[:, None] for rotation in rotations)
    first, second = states.float().chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (states.float() * cosines + turned * sines).to(states.dtype)
