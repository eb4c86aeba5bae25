# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""
Recurrent mixers: `lstm`, `gru`, `rnn` and `ssru`, under the contract that the attentions have.

A mixer turns `hidden_states` of shape `(batch_size, length, d_model)` into an output of that shape; position t of a
one-way mixer sees positions up to t, a two-way mixer runs `d_model / 2` numbers in each direction. The state that
generation carries is a tuple of tensors in the layer's `RecurrentCacheLayer`; no module keeps any.

Every projection is an `nn.Linear` child, so whatever wraps or replaces a linear layer (adapters, quantisation) works.
Padding may stand anywhere: masked positions are skipped and give zeros, and no value of the mask goes to the host.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn
from transformers import Cache
from transformers import initialization as init
from transformers.utils.generic import maybe_autocast
from typing_extensions import override

from .configuration_hf_attn import HfAttnConfig
from .modeling_attention import padding_mask_of
from .modeling_keywords import LAYER_KEYWORDS, declares_keywords
from .modeling_loss import product_dtype


# Batch first; a mixer's docstring says what they are.
States = tuple[torch.Tensor, ...]
# The projections of the inputs and of the state in one direction.
Projections = tuple[nn.Linear, nn.Linear]


class RecurrentMixer(nn.Module, ABC):
    """
    The base of the recurrent mixers: the state's way in and out of the cache, and the pooling of a sequence.

    Args:
        d_model (`int`): Width of input and output.
        is_decoder (`bool`): The mixer belongs to a decoder: its first state may come from `pooled_context`.
        bidirectional (`bool`): Half of the width runs from the end to the start. Not for a decoder.
        bias (`bool`, *optional*, defaults to `True`): Whether the projections have biases.
        layer_idx (`int`, *optional*): Index of the layer's entry in the cache.

    Raises:
        ValueError: `bidirectional` with `is_decoder`, or with an odd `d_model`.
    """

    num_states = 1
    #: The layer reads the pooled context of the source.
    needs_pooling = False

    def __init__(
        self, d_model: int, *, is_decoder: bool, bidirectional: bool, bias: bool = True, layer_idx: int | None = None
    ):
        super().__init__()
        if bidirectional and is_decoder:
            raise ValueError(
                "`bidirectional` must be False when `is_decoder` is True: a decoder cannot read what it has yet to "
                "write, got True and True"
            )
        if bidirectional and d_model % 2:
            raise ValueError(
                f"`d_model` must be even when `bidirectional` is True: each direction takes half of it, got {d_model}"
            )
        self.d_model = d_model
        self.d_hidden = d_model // 2 if bidirectional else d_model
        self.bidirectional = bidirectional
        self.layer_idx = layer_idx

    @classmethod
    def from_config(cls, config: HfAttnConfig, *, stack: str, layer_idx: int, is_causal: bool) -> Self:
        """The mixer of layer `layer_idx` of `stack` (`"encoder"` or `"decoder"`)."""
        return cls(
            config.d_model,
            is_decoder=stack == "decoder",
            bidirectional=config.bidirectional_encoder and not is_causal,
            bias=config.use_bias,
            layer_idx=layer_idx,
        )

    @classmethod
    def build_mask(
        cls,
        config: HfAttnConfig,
        inputs_embeds: torch.Tensor,
        padding_mask: torch.Tensor | None,
        cache: Cache | None,
        layer_idx: int,
        is_decoder: bool,
    ) -> torch.Tensor | None:
        """The padding mask of these positions, bool `(batch_size, length)`."""
        return padding_mask_of(inputs_embeds, padding_mask)

    @declares_keywords(LAYER_KEYWORDS)
    def forward(
        self,
        hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None = None,
        *,
        cache: Cache | None = None,
        pooled_context: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        """
        Runs the recurrence over a sequence, or over the next tokens of one whose state is cached.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(batch_size, length, d_model)`): The layer's input.
            padding_mask (`torch.BoolTensor` of shape `(batch_size, length)`, *optional*):
                True at real tokens; the others neither change the state nor get an output. `None`: all are real.
            cache (`Cache`, *optional*): Its entry `layer_idx` gives the state to start from, if it has one,
                and receives the state after the last real token.
            pooled_context (`torch.FloatTensor` of shape `(batch_size, d_model)`, *optional*):
                The pooled source. The state of a decoder starts from it where the cache has none yet.
            kwargs: What other mixers need; not used.

        Returns:
            `tuple[torch.FloatTensor, None]`: Output of shape `(batch_size, length, d_model)`, 0 where masked, and no
            attention map.

        Raises:
            ValueError: `cache` is given to a mixer made without `layer_idx`.
        """
        cache_layer: Any = None
        if cache is not None:
            if self.layer_idx is None:
                raise ValueError("`layer_idx` must be set where `cache` is used, got None: give it on creation")
            cache_layer = cache.layers[self.layer_idx]
        if cache_layer is None or cache_layer.states is None:
            states = self._initial_states(hidden_states, pooled_context)
        else:
            states = tuple(state.to(hidden_states.device) for state in cache_layer.states)
        outputs, states = self._mix(hidden_states, padding_mask, states, keep_states=cache_layer is not None)
        if cache_layer is not None:
            cache_layer.update_states(states, hidden_states.shape[1])
        if padding_mask is not None:
            outputs = outputs.masked_fill(~padding_mask[..., None], 0)
        return outputs, None

    def pool(self, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        The pooled context: of the output of a stack whose last layer has this mixer, the positions where it has read
        everything.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(batch_size, length, d_model)`): The output of the stack.
            padding_mask (`torch.Tensor` of shape `(batch_size, length)`, *optional*): True or 1 at real tokens.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, d_model)`: The last real position; of a two-way mixer, whose
            second half reads backwards, the first one in the second half of the width (a layer with a feed-forward
            mixes the halves, and the rule is then a convention). 0 for a row without a real token.
        """
        if padding_mask is None:
            first, last = hidden_states[:, 0], hidden_states[:, -1]
        else:
            real = padding_mask.int()
            rows = torch.arange(real.shape[0], device=real.device)
            has_tokens = padding_mask.any(dim=1, keepdim=True)
            first = hidden_states[rows, real.argmax(dim=1)].masked_fill(~has_tokens, 0)
            last = hidden_states[rows, real.shape[1] - 1 - real.flip(1).argmax(dim=1)].masked_fill(~has_tokens, 0)
        if not self.bidirectional:
            return last
        return torch.cat([last[:, : self.d_hidden], first[:, self.d_hidden :]], dim=-1)

    def flip_second_half(self, sequence: torch.Tensor) -> torch.Tensor:
        """
        In a two-way mixer turns the second half of the width from the end to the start, which makes one recurrence
        over the whole width run both ways, and turns its result back. A one-way mixer's sequence stays as it is.

        Args:
            sequence (`torch.Tensor` of shape `(batch_size, length, d_model)`): Any dtype.

        Returns:
            `torch.Tensor`: Of the same shape and dtype.
        """
        if not self.bidirectional:
            return sequence
        forwards, backwards = sequence.chunk(2, dim=-1)
        return torch.cat([forwards, backwards.flip(1)], dim=-1)

    @abstractmethod
    def init_recurrent_weights(self) -> None:
        """Gives fresh values to the children's parameters, those apart that a checkpoint has already given."""

    @abstractmethod
    def _initial_states(self, hidden_states: torch.Tensor, pooled_context: torch.Tensor | None) -> States:
        """The state before the first token."""

    @abstractmethod
    def _mix(
        self, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None, states: States, keep_states: bool
    ) -> tuple[torch.Tensor, States]:
        """Output (anything where masked) and, right only if `keep_states`, the state after the last real token."""


class FusedRecurrentMixer(RecurrentMixer):
    """
    A recurrence of torch's own (`lstm`, `gru`, `rnn_tanh`) whose two projections are linear children.

    `ih_proj` and `hh_proj` have the shapes and gate order of `nn.LSTM` and its kin, so weights are interchangeable; a
    second direction has `ih_proj_reverse` and `hh_proj_reverse`. Whole sequences run in torch's fused kernel on the
    weights that the children amount to, wrapped or not. Single steps, children with forward hooks, and cached
    sequences with padding are plain matrix products, step by step. Dropout inside a wrapped child (LoRA's) therefore
    draws one mask for all steps of a sequence.

    A decoder's hidden state starts at tanh(`bridge_proj`(`pooled_context`)) (Bahdanau et al. 2015, appendix A.2.2),
    or at 0 without a context. An LSTM's cell takes its half of the bridge without tanh: nothing bounds a cell later.
    """

    num_gates: int
    kernel: Callable[..., tuple[torch.Tensor, ...]]

    def __init__(
        self, d_model: int, *, is_decoder: bool, bidirectional: bool, bias: bool = True, layer_idx: int | None = None
    ):
        super().__init__(d_model, is_decoder=is_decoder, bidirectional=bidirectional, bias=bias, layer_idx=layer_idx)
        gates_width = self.num_gates * self.d_hidden
        self.ih_proj = nn.Linear(d_model, gates_width, bias=bias)
        self.hh_proj = nn.Linear(self.d_hidden, gates_width, bias=bias)
        if bidirectional:
            self.ih_proj_reverse = nn.Linear(d_model, gates_width, bias=bias)
            self.hh_proj_reverse = nn.Linear(self.d_hidden, gates_width, bias=bias)
        self.bridge_proj = nn.Linear(d_model, self.num_states * d_model, bias=bias) if is_decoder else None
        self.needs_pooling = is_decoder

    @override
    def init_recurrent_weights(self) -> None:
        """Each gate's input matrix Glorot uniform, its recurrent matrix orthogonal; biases 0."""
        directions = [(self.ih_proj, self.hh_proj)]
        if self.bidirectional:
            directions.append((self.ih_proj_reverse, self.hh_proj_reverse))
        for ih_proj, hh_proj in directions:
            _init_blocks(ih_proj, self.num_gates, init.xavier_uniform_)
            _init_blocks(hh_proj, self.num_gates, init.orthogonal_)
        if self.bridge_proj is not None:
            _init_blocks(self.bridge_proj, self.num_states, init.xavier_uniform_)

    @staticmethod
    @abstractmethod
    def _step(input_gates: torch.Tensor, hidden_gates: torch.Tensor, states: States) -> States:
        """The next state from both projections of shape `(batch_size, num_gates * d_hidden)`."""

    @override
    def _initial_states(self, hidden_states: torch.Tensor, pooled_context: torch.Tensor | None) -> States:
        if self.bridge_proj is None or pooled_context is None:
            zeros = hidden_states.new_zeros(hidden_states.shape[0], self.d_hidden, dtype=product_dtype(hidden_states))
            return (zeros,) * self.num_states
        hidden, *cells = self.bridge_proj(pooled_context).chunk(self.num_states, dim=-1)
        return (torch.tanh(hidden), *cells)

    @override
    def _mix(
        self, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None, states: States, keep_states: bool
    ) -> tuple[torch.Tensor, States]:
        needs_loop = keep_states and padding_mask is not None
        run = self._run_steps if needs_loop or hidden_states.shape[1] == 1 else self._run_sequence
        outputs, final_states = run((self.ih_proj, self.hh_proj), hidden_states, padding_mask, states)
        if self.bidirectional:
            reverse_mask = None if padding_mask is None else padding_mask.flip(1)
            children = (self.ih_proj_reverse, self.hh_proj_reverse)
            reverse_outputs, _ = run(children, hidden_states.flip(1), reverse_mask, states)
            outputs = torch.cat([outputs, reverse_outputs.flip(1)], dim=-1)
        return outputs, final_states

    def _run_sequence(
        self, children: Projections, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None, states: States
    ) -> tuple[torch.Tensor, States]:
        # PEFT's batches of mixed adapters, EVA and ZeRO-3 hook into the children, which must then see the real inputs.
        if any(child._forward_pre_hooks or child._forward_hooks for child in children):
            return self._run_steps(children, hidden_states, padding_mask, states)
        if padding_mask is None:
            return _run_kernel(self.kernel, children, hidden_states, states)
        # Real tokens move to the left, in order, so that the kernel meets the padding of a row after all of them.
        order = torch.argsort((~padding_mask).int(), dim=1, stable=True)
        outputs, final_states = _run_kernel(self.kernel, children, _take(hidden_states, order), states)
        return _take(outputs, order.argsort(dim=1)), final_states

    def _run_steps(
        self, children: Projections, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None, states: States
    ) -> tuple[torch.Tensor, States]:
        ih_proj, hh_proj = children
        input_gates = ih_proj(hidden_states)
        outputs = []
        for position in range(hidden_states.shape[1]):
            new_states = self._step(input_gates[:, position], hh_proj(states[0]), states)
            if padding_mask is not None:
                is_real = padding_mask[:, position, None]
                pairs = zip(new_states, states, strict=True)
                new_states = tuple(torch.where(is_real, new_state, state) for new_state, state in pairs)
            states = new_states
            outputs.append(states[0])
        return torch.stack(outputs, dim=1), states


class LSTMMixer(FusedRecurrentMixer):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000), as `nn.LSTM`."""

    num_gates = 4
    num_states = 2
    kernel = staticmethod(torch._VF.lstm)

    @override
    def init_recurrent_weights(self) -> None:
        """As the base class does, but forget gates start open: a bias of 1 (Jozefowicz et al. 2015), in `ih_proj`."""
        super().init_recurrent_weights()
        for child in (self.ih_proj, self.ih_proj_reverse) if self.bidirectional else (self.ih_proj,):
            if child.bias is not None:
                bias = torch.zeros_like(child.bias)
                bias.chunk(self.num_gates)[1].fill_(1)
                init.copy_(child.bias, bias)

    @staticmethod
    @override
    def _step(input_gates: torch.Tensor, hidden_gates: torch.Tensor, states: States) -> States:
        input_gate, forget_gate, candidate, output_gate = (input_gates + hidden_gates).chunk(4, dim=-1)
        cell = torch.sigmoid(forget_gate) * states[1] + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return torch.sigmoid(output_gate) * torch.tanh(cell), cell


class GRUMixer(FusedRecurrentMixer):
    """
    Gated recurrent unit (Cho et al. 2014), as `nn.GRU`: the reset gate acts after the recurrent projection.
    """

    num_gates = 3
    kernel = staticmethod(torch._VF.gru)

    @staticmethod
    @override
    def _step(input_gates: torch.Tensor, hidden_gates: torch.Tensor, states: States) -> States:
        input_reset, input_update, input_candidate = input_gates.chunk(3, dim=-1)
        hidden_reset, hidden_update, hidden_candidate = hidden_gates.chunk(3, dim=-1)
        update = torch.sigmoid(input_update + hidden_update)
        candidate = torch.tanh(input_candidate + torch.sigmoid(input_reset + hidden_reset) * hidden_candidate)
        return ((1 - update) * candidate + update * states[0],)


class RNNMixer(FusedRecurrentMixer):
    """Simple recurrence h_t = tanh(W x_t + U h_{t-1} + b) (Elman 1990), as `nn.RNN`."""

    num_gates = 1
    kernel = staticmethod(torch._VF.rnn_tanh)

    @staticmethod
    @override
    def _step(input_gates: torch.Tensor, hidden_gates: torch.Tensor, states: States) -> States:
        return (torch.tanh(input_gates + hidden_gates),)


class SSRUMixer(RecurrentMixer):
    """
    Simpler simple recurrent unit (Kim et al. 2019, "From Research to Production and Back", section 3.1).

        f_t = sigmoid(W_f x_t + b_f)    c_t = f_t * c_{t-1} + (1 - f_t) * (W x_t + b)    output_t = relu(c_t)

    `in_proj` gives the forget gate's logits, then the candidate (the paper's has no bias b). Only the elementwise
    recurrence links the positions, so a sequence needs no matrix product per step. The state is the cell, computed and
    kept in float32; it starts at 0, `pooled_context` or not. In a two-way mixer the first half of the gate and of the
    candidate runs forwards, the second half backwards.
    """

    def __init__(
        self, d_model: int, *, is_decoder: bool, bidirectional: bool, bias: bool = True, layer_idx: int | None = None
    ):
        super().__init__(d_model, is_decoder=is_decoder, bidirectional=bidirectional, bias=bias, layer_idx=layer_idx)
        self.in_proj = nn.Linear(d_model, 2 * d_model, bias=bias)

    @override
    def init_recurrent_weights(self) -> None:
        """Gate and candidate matrices Glorot uniform; biases 0."""
        _init_blocks(self.in_proj, 2, init.xavier_uniform_)

    @override
    def _initial_states(self, hidden_states: torch.Tensor, pooled_context: torch.Tensor | None) -> States:
        dtype = torch.promote_types(hidden_states.dtype, torch.float32)
        return (hidden_states.new_zeros(hidden_states.shape[0], self.d_model, dtype=dtype),)

    @override
    def _mix(
        self, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None, states: States, keep_states: bool
    ) -> tuple[torch.Tensor, States]:
        projected = self.in_proj(hidden_states)
        forget_logits, candidate = projected.to(states[0].dtype).chunk(2, dim=-1)
        forget = torch.sigmoid(forget_logits)
        update = (1 - forget) * candidate
        if padding_mask is not None:
            is_padding = ~padding_mask[..., None]
            forget, update = forget.masked_fill(is_padding, 1), update.masked_fill(is_padding, 0)
        if hidden_states.shape[1] == 1:
            cells = torch.addcmul(update, forget, states[0][:, None])
        else:
            cells = self.flip_second_half(
                linear_recurrence(self.flip_second_half(forget), self.flip_second_half(update), states[0])
            )
        # A copy, for a slice would hold the whole sequence in the cache.
        final_states = (cells[:, -1].clone(),) if keep_states else states
        return torch.relu(cells).to(projected.dtype), final_states


@torch.compiler.disable
def linear_recurrence(forget: torch.Tensor, update: torch.Tensor, initial_state: torch.Tensor) -> torch.Tensor:
    """
    Computes c_t = forget_t * c_{t-1} + update_t, elementwise, for all t, with memory linear in the length.

    Args:
        forget (`torch.FloatTensor` of shape `(batch_size, length, width)`): Factors, within [0, 1] for stability.
        update (`torch.FloatTensor` of shape `(batch_size, length, width)`): Terms added.
        initial_state (`torch.FloatTensor` of shape `(batch_size, width)`): c_0. All three share one dtype.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, length, width)`: c_1 to c_length.
    """
    return _LinearRecurrence.apply(forget, update, initial_state)


class _LinearRecurrence(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, forget: torch.Tensor, update: torch.Tensor, initial_state: torch.Tensor) -> torch.Tensor:
        cells = _scan(forget, update, initial_state)
        ctx.save_for_backward(forget, cells, initial_state)
        return cells

    @staticmethod
    @override
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        forget, cells, initial_state = ctx.saved_tensors
        # The gradient of c_t is its own plus forget_{t+1} times that of c_{t+1}: the same recurrence from the end.
        factors = torch.cat([torch.zeros_like(forget[:, :1]), forget[:, 1:].flip(1)], dim=1)
        grad_update = _scan(factors, grad_cells.flip(1), torch.zeros_like(initial_state)).flip(1)
        previous_cells = torch.cat([initial_state[:, None], cells[:, :-1]], dim=1)
        return grad_update * previous_cells, grad_update, grad_update[:, 0] * forget[:, 0]


def _scan(forget: torch.Tensor, update: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """The recurrence without gradients, by steps on a CPU, which has no launches to save."""
    return (_scan_by_steps if forget.device.type == "cpu" else _scan_by_doubling)(forget, update, state)


def _scan_by_steps(forget: torch.Tensor, update: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    cells = torch.empty_like(update)
    for forget_step, update_step, cell in zip(forget.unbind(1), update.unbind(1), cells.unbind(1), strict=True):
        state = torch.addcmul(update_step, forget_step, state, out=cell)
    return cells


def _scan_by_doubling(forget: torch.Tensor, update: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    cells, factors = update.clone(), forget.clone()
    cells[:, 0].addcmul_(forget[:, 0], state)
    span = 1
    while span < update.shape[1]:
        # Position t sums up `span` positions up to t; adding those before them doubles that.
        cells[:, span:] = torch.addcmul(cells[:, span:], factors[:, span:], cells[:, :-span])
        factors[:, span:] = factors[:, span:] * factors[:, :-span]
        span *= 2
    return cells


@torch.compiler.disable
def _run_kernel(
    kernel: Callable[..., tuple[torch.Tensor, ...]],
    children: Projections,
    hidden_states: torch.Tensor,
    states: States,
) -> tuple[torch.Tensor, States]:
    """All steps at once; the state returned is the one after the last position."""
    dtype = product_dtype(hidden_states)
    with maybe_autocast(hidden_states.device.type, enabled=False):
        matrices, biases = zip(*(_effective_weights(child, hidden_states) for child in children), strict=True)
        weights = [weight.to(dtype) for weight in (*matrices, *biases)]
        if hidden_states.is_cuda:
            # One chunk in cuDNN's order, as `flatten_parameters` makes it; else cuDNN copies and warns.
            sizes = [weight.numel() for weight in weights]
            parts = torch.cat([weight.reshape(-1) for weight in weights]).split(sizes)
            weights = [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
        # cuDNN takes no strided states, and the halves of a bridge are.
        kernel_states = [state.to(dtype)[None].contiguous() for state in states]
        outputs, *final_states = kernel(
            hidden_states.to(dtype),
            kernel_states if len(states) > 1 else kernel_states[0],
            weights,
            True,  # has_biases
            1,  # num_layers
            0.0,  # dropout
            torch.is_grad_enabled(),  # train: cuDNN keeps what the backward needs
            False,  # bidirectional
            True,  # batch_first
        )
    return outputs, tuple(state[0] for state in final_states)


def _effective_weights(child: nn.Linear, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Weight and bias of the linear map that `child` computes.

    A child that is more than an `nn.Linear`, or runs through a forward of its own (offloading), is asked for its
    outputs: the `weight` of an adapter's wrapper is that of the layer below it, without the adapter.
    """
    if type(child) is nn.Linear and "forward" not in vars(child):
        weight, bias = child.weight, child.bias
        return weight, weight.new_zeros(weight.shape[0]) if bias is None else bias
    # The dtype that the child computes in, whatever autocast has made of its input; packed weights are integers.
    dtypes = (parameter.dtype for parameter in child.parameters() if parameter.is_floating_point())
    dtype = next(dtypes, hidden_states.dtype)
    identity = torch.eye(child.in_features, dtype=dtype, device=hidden_states.device)
    outputs = child(torch.cat([identity, torch.zeros_like(identity[:1])]))
    return (outputs[:-1] - outputs[-1]).T, outputs[-1]


def _take(sequence: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The positions of `sequence` `(batch_size, length, width)` in the `order` `(batch_size, length)` of its row."""
    return sequence.gather(1, order[..., None].expand_as(sequence))


def _init_blocks(linear: nn.Linear, num_blocks: int, init_block: Callable[[torch.Tensor], object]) -> None:
    """Fills each of the blocks of rows of a weight as a matrix of its own, and the bias with 0."""
    weight = torch.empty_like(linear.weight)
    for block in weight.chunk(num_blocks):
        init_block(block)
    init.copy_(linear.weight, weight)
    if linear.bias is not None:
        init.zeros_(linear.bias)
