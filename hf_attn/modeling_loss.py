# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""
The losses of the heads; that of target tokens from logits, or straight from hidden states without ever holding all
logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from typing_extensions import override


IGNORE_INDEX = -100

# Numbers in a chunk of logits: 16 MiB in float32, small enough for a CPU's cache, large enough for a GPU's kernels.
CHUNK_NUMBERS = 2**22


def sequence_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """
    Cross-entropy in float32, summed over the target tokens and divided by their number.

    With `num_items_in_batch` the divisor is the number of target tokens of the whole optimizer step, so that loss
    and gradients do not depend on how its samples are split over accumulation steps and processes.

    Args:
        logits (`torch.Tensor`): (batch, length, vocab_size).
        labels (`torch.Tensor`): (batch, length); -100 is ignored.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): The divisor; by default the labels that count here.
        label_smoothing (`float`): Share of the probability that is spread over the vocabulary (Szegedy et al. 2016,
            section 7).

    Returns:
        `torch.Tensor`: A scalar, float32.
    """
    labels = labels.to(logits.device)
    total = nn.functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return divide_by_items(total, labels, num_items_in_batch)


def span_loss(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """
    The mean of the `sequence_loss` of the first and of the last token of an answer, each one of the source's tokens.

    Args:
        start_logits, end_logits (`torch.Tensor`): (batch, source_length).
        start_positions, end_positions (`torch.Tensor`): (batch,) or (batch, 1); one behind the source is ignored, one
            below 0 is 0, as in transformers.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): The divisor, in rows; by default those that count
            here.

    Returns:
        `torch.Tensor`: A scalar, float32.
    """
    losses = []
    for logits, positions in ((start_logits, start_positions), (end_logits, end_positions)):
        positions = positions.view(-1, 1).clamp(min=0)
        labels = positions.masked_fill(positions >= logits.shape[-1], IGNORE_INDEX)
        losses.append(sequence_loss(logits[:, None], labels, num_items_in_batch))
    return (losses[0] + losses[1]) / 2


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    config: PreTrainedConfig,
    num_items_in_batch: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """
    In float32, by `config.problem_type`: squared error, cross-entropy, or binary cross-entropy of each class.

    As in transformers the config is told what the labels mean where it does not say.

    Args:
        logits (`torch.Tensor`): (batch, num_labels).
        labels (`torch.Tensor`): Classes (batch,), of which -100 is ignored; or for each class (batch, num_labels)
            whether it is one, -100 to ignore it; or real numbers in the shape of `logits`, (batch,) if there is one.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): The divisor, in labels; by default those that count
            here.

    Returns:
        `torch.Tensor`: A scalar, float32.
    """
    if config.problem_type is None:
        if config.num_labels == 1:
            config.problem_type = "regression"
        elif labels.is_floating_point():
            config.problem_type = "multi_label_classification"
        else:
            config.problem_type = "single_label_classification"
    if config.problem_type == "single_label_classification":
        return sequence_loss(logits[:, None], labels.view(-1, 1), num_items_in_batch)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels.to(logits).view_as(logits)
    if config.problem_type == "regression":
        total = nn.functional.mse_loss(logits, labels, reduction="sum")
        return divide_by_items(total, labels, labels.numel() if num_items_in_batch is None else num_items_in_batch)
    counts = labels != IGNORE_INDEX
    total = nn.functional.binary_cross_entropy_with_logits(logits, labels, weight=counts.to(logits), reduction="sum")
    return divide_by_items(total, labels, num_items_in_batch)


def chunked_sequence_loss(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """
    `sequence_loss` of `hidden_states @ weight.T + bias`, a chunk of rows at a time.

    The gradients are made in the forward pass, while a chunk's probabilities are at hand, so neither pass holds more
    than `CHUNK_NUMBERS` logits. The second derivative is not available.

    Args:
        hidden_states (`torch.Tensor`): (batch, length, d_model).
        weight, bias (`torch.Tensor`): The output projection, (vocab_size, d_model) and (vocab_size,).
        labels, num_items_in_batch, label_smoothing: As in `sequence_loss`.

    Returns:
        `torch.Tensor`: A scalar, float32.
    """
    labels = labels.to(hidden_states.device)
    total = _ChunkedCrossEntropy.apply(
        hidden_states.flatten(0, 1), weight, bias, labels.flatten(), label_smoothing, product_dtype(hidden_states)
    )
    return divide_by_items(total, labels, num_items_in_batch)


def chunked_row_loss(
    row_loss: Callable[..., torch.Tensor],
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    indices: torch.Tensor,
    *row_inputs: torch.Tensor,
) -> torch.Tensor:
    """
    The sum over rows of a function of a few of the row's `logits = hidden_states @ weight.T + bias`, and of all.

    As in `chunked_sequence_loss`, a chunk of rows at a time and with the gradients made in the forward pass.

    Args:
        row_loss (`Callable`): Maps the columns `indices` of some rows' logits, (some_rows, columns), their
            `logits.logsumexp(dim=1)`, (some_rows,), both float32, and the same rows of `row_inputs` to the scalar sum
            of the losses of these rows.
        hidden_states (`torch.Tensor`): (rows, d_model).
        weight, bias (`torch.Tensor`): The output projection, (vocab_size, d_model) and (vocab_size,).
        indices (`torch.LongTensor`): (rows, columns), of the vocabulary.
        row_inputs (`torch.Tensor`): Float tensors with `rows` first.

    Returns:
        `torch.Tensor`: A scalar, float32.
    """
    return _ChunkedRowLoss.apply(
        row_loss, product_dtype(hidden_states), hidden_states, weight, bias, indices, *row_inputs
    )


def product_dtype(inputs: torch.Tensor) -> torch.dtype:
    """The dtype in which `inputs` are multiplied here: autocast's, or their own."""
    device_type = inputs.device.type
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return inputs.dtype


def divide_by_items(
    total: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None
) -> torch.Tensor:
    """The summed loss `total` over `num_items_in_batch`, or over the labels that count here; over 1 at least."""
    if num_items_in_batch is None:
        num_items_in_batch = (labels != IGNORE_INDEX).sum()
    if isinstance(num_items_in_batch, torch.Tensor):
        return total / num_items_in_batch.to(total.device).clamp(min=1)
    return total / max(num_items_in_batch, 1)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """
    The sum over rows of logsumexp(z) - (1 - s) z[target] - s mean(z), with z the row's logits and s the smoothing.

    Its gradient by z is softmax(z) - (1 - s) onehot(target) - s / vocab_size. The last term is the same in every
    column, so smoothing is done in products with the mean of the weights, and rows are masked in the narrow factors:
    what is as large as the logits is passed over as rarely as can be.
    """

    @staticmethod
    @override
    def forward(
        ctx: Any,
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        label_smoothing: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        needs_hidden, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        vocab_size = weight.shape[0]
        precise = torch.promote_types(dtype, torch.float32)
        inputs, projection = hidden_states.to(dtype), weight.to(dtype)
        is_target = (labels != IGNORE_INDEX)[:, None].to(precise)
        masked_inputs = inputs * is_target.to(dtype)
        mean_weight = weight.mean(dim=0, dtype=precise)
        mean_logits = (masked_inputs.to(precise) @ mean_weight).sum()
        if bias is not None:
            mean_logits += bias.mean(dtype=precise) * is_target.sum()
        total = -label_smoothing * mean_logits
        grad_hidden = torch.empty_like(inputs) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=precise) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=precise) if bias is not None and needs_bias else None
        for chunk, logits in _logit_chunks(inputs, projection, bias):
            targets = labels[chunk].clamp(min=0)[:, None]
            target_logits = logits.gather(1, targets)
            probabilities, log_norms = _softmax_and_log_norms(logits)
            total += ((log_norms - (1 - label_smoothing) * target_logits) * is_target[chunk]).sum()
            if not any(ctx.needs_input_grad):
                continue
            probabilities.scatter_add_(1, targets, torch.full_like(target_logits, label_smoothing - 1))
            if grad_bias is not None:
                grad_bias += is_target[chunk, 0] @ probabilities
            grad_logits = probabilities.to(dtype)
            if grad_hidden is not None:
                torch.mm(grad_logits, projection, out=grad_hidden[chunk])
            if grad_weight is not None:
                grad_weight += grad_logits.T @ masked_inputs[chunk]
        if grad_hidden is not None:
            grad_hidden = (grad_hidden - label_smoothing * mean_weight.to(dtype)) * is_target.to(dtype)
        if grad_weight is not None:
            grad_weight -= masked_inputs.sum(dim=0, dtype=precise) * (label_smoothing / vocab_size)
        if grad_bias is not None:
            grad_bias -= is_target.sum() * (label_smoothing / vocab_size)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = hidden_states.dtype, weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    @override
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = [
            None if gradient is None else (gradient * grad_total).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None, None)


class _ChunkedRowLoss(torch.autograd.Function):
    """Gradients of `row_loss` by its arguments come from autograd; that of a normaliser by its logits is softmax."""

    @staticmethod
    @override
    def forward(
        ctx: Any,
        row_loss: Callable[..., torch.Tensor],
        dtype: torch.dtype,
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        indices: torch.Tensor,
        *row_inputs: torch.Tensor,
    ) -> torch.Tensor:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[2:5]
        precise = torch.promote_types(dtype, torch.float32)
        inputs, projection = hidden_states.to(dtype), weight.to(dtype)
        total = torch.zeros((), dtype=precise, device=inputs.device)
        grad_hidden = torch.empty_like(inputs) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=precise) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=precise) if bias is not None and needs_bias else None
        grad_rows = [torch.empty_like(rows) for rows in row_inputs]
        for chunk, logits in _logit_chunks(inputs, projection, bias):
            probabilities, log_norms = _softmax_and_log_norms(logits)
            arguments = (logits.gather(1, indices[chunk]), log_norms[:, 0], *(rows[chunk] for rows in row_inputs))
            leaves = [argument.detach().requires_grad_() for argument in arguments]
            with torch.enable_grad():
                losses = row_loss(*leaves)
            total += losses.detach()
            if not any(ctx.needs_input_grad):
                continue
            grad_selected, grad_norms, *gradients = torch.autograd.grad(losses, leaves)
            for grad_all, gradient in zip(grad_rows, gradients, strict=True):
                grad_all[chunk] = gradient
            grad_logits = probabilities.mul_(grad_norms[:, None]).scatter_add_(1, indices[chunk], grad_selected)
            if grad_bias is not None:
                grad_bias += grad_logits.sum(dim=0)
            grad_products = grad_logits.to(dtype)
            if grad_hidden is not None:
                torch.mm(grad_products, projection, out=grad_hidden[chunk])
            if grad_weight is not None:
                grad_weight += grad_products.T @ inputs[chunk]
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias, *grad_rows)
        ctx.dtypes = [
            None if source is None else source.dtype for source in (hidden_states, weight, bias, *row_inputs)
        ]
        return total

    @staticmethod
    @override
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias, *grad_rows = (
            None if gradient is None else (gradient * grad_total).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return None, None, grad_hidden, grad_weight, grad_bias, None, *grad_rows


def _softmax_and_log_norms(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (rows, vocab_size) and log normalisers (rows, 1): in fewer passes than softmax and logsumexp."""
    probabilities = torch.softmax(logits, dim=1)
    return probabilities, logits.amax(dim=1, keepdim=True) - probabilities.amax(dim=1, keepdim=True).log()


def _logit_chunks(
    inputs: torch.Tensor, projection: torch.Tensor, bias: torch.Tensor | None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Rows of `inputs`, and their logits in float32."""
    precise = torch.promote_types(inputs.dtype, torch.float32)
    for start in range(0, len(inputs), chunk_rows := max(1, CHUNK_NUMBERS // len(projection))):
        chunk = slice(start, start + chunk_rows)
        logits = (inputs[chunk] @ projection.T).to(precise)
        yield chunk, logits if bias is None else logits.add_(bias)
