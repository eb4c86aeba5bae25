# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""
Copying from the source (pointer-generator) and the penalty for attending to it twice (See et al. 2017, section 2).

All in log space, and in float32: a target position generates with probability p_gen, else it copies a source token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from .modeling_loss import IGNORE_INDEX, chunked_row_loss, divide_by_items


class CopiedTokens(NamedTuple):
    """
    The tokens that each target position may copy, and how likely that is.

    Args:
        tokens (`torch.LongTensor`): (batch, source_length), the distinct tokens of each source, then zeros.
        log_copy (`torch.Tensor`): (batch, target_length, source_length), log of (1 - p_gen) times the attention on
            all source positions that hold the token in the same column of `tokens`; -inf where there is none.
        log_generate (`torch.Tensor`): (batch, target_length, 1), log p_gen.
    """

    tokens: torch.Tensor
    log_copy: torch.Tensor
    log_generate: torch.Tensor


class CopyHead(nn.Module):
    """
    The soft switch p_gen = sigmoid(w [h*; s; x] + b) and what is copied (See et al. 2017, equations 8 and 9).

    h* is the context, the sum of source states by attention (equation 3); s the state that the decoder ends with; x
    the embedding that it reads. The paper's decoder has one attention of one head, which both makes the context and
    points. So here no attention is added: that of the last decoder layer points, the one nearest to the output,
    averaged over its heads as in fairseq's pointer-generator. The mean is a distribution again, and is what
    `cross_attentions[-1].mean(dim=1)` shows. Source and target share one vocabulary of subwords, so none is extended.

    Args:
        d_model (`int`): Width of the three inputs.
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.gate = nn.Linear(3 * d_model, 1)

    def forward(
        self,
        hidden_states: torch.Tensor,
        inputs_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        cross_attention_weights: torch.Tensor,
        source_ids: torch.LongTensor,
    ) -> CopiedTokens:
        """
        Args:
            hidden_states, inputs_embeds (`torch.Tensor`): What leaves and what enters the decoder, each (batch,
                target_length, d_model).
            encoder_hidden_states (`torch.Tensor`): (batch, source_length, d_model).
            cross_attention_weights (`torch.Tensor`): (batch, target_length, source_length); rows sum to 1, 0 at
                padding.
            source_ids (`torch.LongTensor`): (batch, source_length).
        """
        context = torch.matmul(cross_attention_weights.to(encoder_hidden_states.dtype), encoder_hidden_states)
        gate = self.gate(torch.cat([context, hidden_states, inputs_embeds], dim=-1)).to(cross_attention_weights.dtype)
        tokens, places = distinct_tokens(source_ids)
        places = places[:, None].expand_as(cross_attention_weights)
        weights = torch.zeros_like(cross_attention_weights).scatter_add(-1, places, cross_attention_weights)
        is_attended = weights > 0
        log_weights = torch.where(is_attended, weights, 1).log().masked_fill(~is_attended, -torch.inf)
        return CopiedTokens(tokens, nn.functional.logsigmoid(-gate) + log_weights, nn.functional.logsigmoid(gate))


def distinct_tokens(source_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The distinct tokens of each row of `source_ids` (batch, length), and where among them each position's token is.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Tokens in increasing order, then zeros; places, such that
        `tokens.gather(-1, places)` is `source_ids`. Both (batch, length).
    """
    ordered, order = source_ids.sort(dim=-1)
    ranks = nn.functional.pad((ordered[:, 1:] != ordered[:, :-1]).cumsum(dim=-1), (1, 0))
    tokens = torch.zeros_like(source_ids).scatter_(-1, ranks, ordered)
    return tokens, torch.empty_like(order).scatter_(-1, order, ranks)


def mixture_log_probabilities(logits: torch.Tensor, copied: CopiedTokens) -> torch.Tensor:
    """
    log(p_gen P_vocab + (1 - p_gen) P_copy) (See et al. 2017, equation 9).

    Args:
        logits (`torch.Tensor`): Of the vocabulary, (batch, target_length, vocab_size).

    Returns:
        `torch.Tensor`: As `logits`, in float32; normalised, so that it serves as logits too.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)
    log_vocabulary = logits.to(precise).log_softmax(dim=-1) + copied.log_generate
    tokens = copied.tokens[:, None].expand_as(copied.log_copy)
    gains = nn.functional.softplus(copied.log_copy - log_vocabulary.gather(-1, tokens))
    return log_vocabulary.scatter_add(-1, tokens, gains)


def chunked_mixture_loss(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    copied: CopiedTokens,
    labels: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """
    `sequence_loss` of the mixture whose vocabulary logits are `hidden_states @ weight.T + bias`, a chunk at a time.

    Of a row it takes the normaliser and the logit of the target, with smoothing those of the source tokens too; rows
    without a target are left out. See [`chunked_row_loss`].

    Args:
        hidden_states (`torch.Tensor`): (batch, target_length, d_model).
        weight, bias (`torch.Tensor`): The output projection, (vocab_size, d_model) and (vocab_size,).
        labels, num_items_in_batch, label_smoothing: As in `sequence_loss`.

    Returns:
        `torch.Tensor`: A scalar, float32.
    """
    labels = labels.to(hidden_states.device)
    is_target = labels != IGNORE_INDEX
    targets = labels[is_target][:, None]
    inputs = hidden_states[is_target]
    log_copy = copied.log_copy[is_target]
    tokens = copied.tokens[:, None].expand_as(copied.log_copy)[is_target]
    log_copied_target = log_copy.masked_fill(tokens != targets, -torch.inf).amax(dim=1)
    indices = torch.cat([targets, tokens], dim=1) if label_smoothing else targets
    row_inputs = (copied.log_generate[is_target], log_copied_target, *([log_copy] if label_smoothing else []))

    def row_loss(
        selected: torch.Tensor,
        log_norms: torch.Tensor,
        log_generate: torch.Tensor,
        log_copied_target: torch.Tensor,
        log_copy: torch.Tensor | None = None,
    ) -> torch.Tensor:
        log_scale = log_generate - log_norms[:, None]
        log_vocabulary = selected + log_scale
        total = -(1 - label_smoothing) * torch.logaddexp(log_vocabulary[:, 0], log_copied_target).sum()
        if log_copy is not None:
            gains = nn.functional.softplus(log_copy - log_vocabulary[:, 1:])
            total = total - label_smoothing * (log_scale.sum() + gains.sum() / len(weight))
        return total

    total = chunked_row_loss(row_loss, inputs, weight, bias, indices, *row_inputs)
    if label_smoothing:
        mean_logits = inputs.to(total.dtype) @ weight.mean(dim=0, dtype=total.dtype)
        if bias is not None:
            mean_logits = mean_logits + bias.mean(dtype=total.dtype)
        total = total - label_smoothing * mean_logits.sum()
    return divide_by_items(total, labels, num_items_in_batch)


def coverage_loss(
    cross_attention_weights: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None
) -> torch.Tensor:
    """
    The attention on what was attended to before, sum_i min(a_i, c_i) (See et al. 2017, equation 13), c the sum of
    the attention of the earlier target positions (equation 10).

    Only the loss: the paper feeds c into the scores as well (equation 11), which makes each step wait for the one
    before; here all steps are trained at once, and generation needs no coverage.

    Args:
        cross_attention_weights (`torch.Tensor`): (batch, target_length, source_length).
        labels (`torch.Tensor`): (batch, target_length); a position with -100 neither counts nor covers.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): The divisor, as in `sequence_loss`.

    Returns:
        `torch.Tensor`: A scalar, float32, between 0 and 1 for the mean over target positions.
    """
    labels = labels.to(cross_attention_weights.device)
    weights = cross_attention_weights * (labels != IGNORE_INDEX)[..., None]
    coverage = weights.cumsum(dim=1) - weights
    return divide_by_items(torch.minimum(weights, coverage).sum(), labels, num_items_in_batch)
