# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""Tokens that the two texts of a source, such as a question and its context, have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .modeling_copy import distinct_tokens


class MatchEmbedding(nn.Module):
    """
    A vector for the tokens of one text that also stand in the other.

    The feature "exact match" of Chen et al. 2017 (section 3.2), which tells a reader where the words of the question
    are in the context: small models find them so without having to learn what equal tokens look like to an attention.
    Chen et al. mark words of the context; here tokens of either text are marked, each text with its own vector. A
    tokenizer parts the texts of a pair by an end token; without one, or with nothing behind it, nothing is marked.

    The vectors start at 0, so that a checkpoint which gets them computes at first what it did before.

    Args:
        d_model (`int`): Width of the embedding.
        separator_ids (sequence of `int`): Tokens that part two texts.
    """

    def __init__(self, d_model: int, separator_ids: Sequence[int]):
        super().__init__()
        self.separator_ids = tuple(separator_ids)
        self.weight = nn.Parameter(torch.zeros(2, d_model))

    def forward(self, token_ids: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
        """
        Args:
            token_ids (`torch.LongTensor`): (batch, length).
            padding_mask (`torch.Tensor`, *optional*): (batch, length), 0 at padding.

        Returns:
            `torch.Tensor`: What to add to the embeddings, (batch, length, d_model).
        """
        return self.matches(token_ids, padding_mask).to(self.weight.dtype) @ self.weight

    def matches(self, token_ids: torch.Tensor, padding_mask: torch.Tensor | None) -> torch.Tensor:
        """
        Which tokens of the first text stand in the second too, and which of the second in the first.

        Returns:
            `torch.Tensor`: bool (batch, length, 2).
        """
        is_separator = torch.zeros_like(token_ids, dtype=torch.bool)
        for separator in self.separator_ids:
            is_separator = is_separator | (token_ids == separator)
        if padding_mask is not None:
            is_separator = is_separator & padding_mask.bool()
        is_first = is_separator.cumsum(dim=-1) == 0
        is_second = ~is_first & ~is_separator
        if padding_mask is not None:
            is_first, is_second = is_first & padding_mask.bool(), is_second & padding_mask.bool()
        _, places = distinct_tokens(token_ids)

        def stand_in(text: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(places).scatter_add(-1, places, text.long()).gather(-1, places) > 0

        return torch.stack([is_first & stand_in(is_second), is_second & stand_in(is_first)], dim=-1)
