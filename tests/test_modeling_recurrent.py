# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The recurrent mixers against torch's modules, slow references, adapters, caches and padding of every shape."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache

from hf_attn.modeling_cache import RecurrentCacheLayer, StaticRecurrentCacheLayer
from hf_attn.modeling_recurrent import (
    GRUMixer,
    LSTMMixer,
    RNNMixer,
    SSRUMixer,
    _effective_weights,
    _scan_by_doubling,
    _scan_by_steps,
    linear_recurrence,
)


D_MODEL = 8
TORCH_MODULES = {LSTMMixer: nn.LSTM, GRUMixer: nn.GRU, RNNMixer: nn.RNN}
FUSED = list(TORCH_MODULES)

# Five tokens in seven places: padding on the right, on the left, holes; the last row is all padding.
RAGGED_MASK = torch.tensor(
    [
        [1, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 1],
        [0, 1, 1, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ]
).bool()


def make_mixer(mixer_class, *, is_decoder=False, bidirectional=False, bias=True, d_model=D_MODEL):
    mixer = mixer_class(d_model, is_decoder=is_decoder, bidirectional=bidirectional, bias=bias, layer_idx=0)
    mixer.init_recurrent_weights()
    for parameter in mixer.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.5)
    return mixer


def make_cache(layer_class=RecurrentCacheLayer, **kwargs):
    return Cache(layers=[layer_class(**kwargs)])


def torch_module_of(mixer):
    """torch's module with the weights of `mixer`."""
    module = TORCH_MODULES[type(mixer)](
        mixer.d_model, mixer.d_hidden, batch_first=True, bidirectional=mixer.bidirectional
    )
    for suffix in ("", "_reverse") if mixer.bidirectional else ("",):
        for kind in ("ih", "hh"):
            child = getattr(mixer, f"{kind}_proj{suffix}")
            getattr(module, f"weight_{kind}_l0{suffix}").data.copy_(child.weight)
            getattr(module, f"bias_{kind}_l0{suffix}").data.copy_(child.bias)
    return module


def naive_fused(mixer, tokens):
    first_way = naive_fused_direction(mixer, mixer.ih_proj, mixer.hh_proj, tokens)
    if not mixer.bidirectional:
        return first_way
    second_way = naive_fused_direction(mixer, mixer.ih_proj_reverse, mixer.hh_proj_reverse, tokens.flip(0)).flip(0)
    return torch.cat([first_way, second_way], dim=-1)


def naive_fused_direction(mixer, ih_proj, hh_proj, tokens):
    states = [torch.zeros(mixer.d_hidden)] * mixer.num_states
    outputs = []
    for token in tokens:
        from_input = (ih_proj.weight @ token + ih_proj.bias).view(mixer.num_gates, -1)
        from_hidden = (hh_proj.weight @ states[0] + hh_proj.bias).view(mixer.num_gates, -1)
        if isinstance(mixer, LSTMMixer):
            gates = from_input + from_hidden
            cell = gates[1].sigmoid() * states[1] + gates[0].sigmoid() * gates[2].tanh()
            states = [gates[3].sigmoid() * cell.tanh(), cell]
        elif isinstance(mixer, GRUMixer):
            reset, update = (from_input[:2] + from_hidden[:2]).sigmoid()
            candidate = (from_input[2] + reset * from_hidden[2]).tanh()
            states = [(1 - update) * candidate + update * states[0]]
        else:
            states = [(from_input[0] + from_hidden[0]).tanh()]
        outputs.append(states[0])
    return torch.stack(outputs)


def naive_ssru(mixer, tokens):
    outputs = torch.zeros(len(tokens), mixer.d_model)
    ways = [(slice(0, mixer.d_hidden), range(len(tokens)))]
    if mixer.bidirectional:
        ways.append((slice(mixer.d_hidden, None), reversed(range(len(tokens)))))
    for half, positions in ways:
        cell = torch.zeros(mixer.d_hidden)
        for position in positions:
            projected = (mixer.in_proj.weight @ tokens[position] + mixer.in_proj.bias).view(2, -1)
            forget, candidate = 1 / (1 + torch.exp(-projected[0, half])), projected[1, half]
            cell = forget * cell + (1 - forget) * candidate
            outputs[position, half] = cell.clamp(min=0)
    return outputs


# Each mixer as a function of one sequence without padding, (length, d_model), token by token, by its formulas.
NAIVE = {
    LSTMMixer: naive_fused,
    GRUMixer: naive_fused,
    RNNMixer: naive_fused,
    SSRUMixer: naive_ssru,
}
MIXERS = list(NAIVE)


def naive(mixer, hidden_states, attention_mask):
    """Each row by itself, without its padding."""
    outputs = torch.zeros_like(hidden_states)
    for row, (sequence, mask) in enumerate(zip(hidden_states, attention_mask, strict=True)):
        if mask.any():
            outputs[row, mask] = NAIVE[type(mixer)](mixer, sequence[mask])
    return outputs


def gradients(mixer, outputs, hidden_states):
    """Of a fixed weighting of `outputs`, with respect to the input and to every parameter that took part."""
    weighting = torch.linspace(-1, 1, outputs.numel()).view(outputs.shape)
    found = torch.autograd.grad(
        (outputs * weighting).sum(), [hidden_states, *mixer.parameters()], allow_unused=True, retain_graph=True
    )
    return [gradient for gradient in found if gradient is not None]


def assert_all_close(actual, expected, **tolerances):
    assert len(actual) == len(expected) > 0
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerances)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("mixer_class", FUSED)
def test_equals_torch_module(mixer_class, bidirectional):
    mixer = make_mixer(mixer_class, bidirectional=bidirectional)
    module = torch_module_of(mixer)
    hidden_states = torch.randn(3, 6, D_MODEL, requires_grad=True)
    outputs, attention_map = mixer(hidden_states)
    expected = module(hidden_states)[0]
    torch.testing.assert_close(outputs, expected)
    assert attention_map is None
    ours = gradients(mixer, outputs, hidden_states)
    theirs = gradients(module, expected, hidden_states)
    order = [0, 1, 3, 2, 4] + ([5, 7, 6, 8] if bidirectional else [])
    assert_all_close(ours, [theirs[index] for index in order])


@pytest.mark.parametrize("mixer_class", FUSED)
def test_ragged_equals_packed_sequences(mixer_class):
    mixer = make_mixer(mixer_class, bidirectional=True)
    module = torch_module_of(mixer)
    lengths = torch.tensor([6, 2, 4])
    hidden_states = torch.randn(3, 6, D_MODEL)
    packed = nn.utils.rnn.pack_padded_sequence(hidden_states, lengths, batch_first=True, enforce_sorted=False)
    expected = nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)[0]
    torch.testing.assert_close(mixer(hidden_states, torch.arange(6) < lengths[:, None])[0], expected)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("mixer_class", MIXERS)
def test_equals_naive_reference_with_padding_anywhere(mixer_class, bidirectional):
    mixer = make_mixer(mixer_class, bidirectional=bidirectional)
    hidden_states = torch.randn(*RAGGED_MASK.shape, D_MODEL, requires_grad=True)
    outputs = mixer(hidden_states, RAGGED_MASK)[0]
    expected = naive(mixer, hidden_states, RAGGED_MASK)
    torch.testing.assert_close(outputs, expected)
    assert_all_close(
        gradients(mixer, outputs, hidden_states), gradients(mixer, expected, hidden_states), rtol=1e-4, atol=1e-5
    )
    assert (outputs[~RAGGED_MASK] == 0).all()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("mixer_class", MIXERS)
def test_padding_and_neighbours_change_nothing(mixer_class, bidirectional):
    mixer = make_mixer(mixer_class, bidirectional=bidirectional)
    tokens = torch.randn(5, D_MODEL)
    alone = mixer(tokens[None])[0][0]
    hidden_states = torch.full((*RAGGED_MASK.shape, D_MODEL), 1e3)
    five_tokens = RAGGED_MASK.clone()
    five_tokens[3] = torch.tensor([1, 0, 1, 0, 1, 1, 1])
    for row in range(4):
        hidden_states[row, five_tokens[row]] = tokens
    outputs = mixer(hidden_states, five_tokens)[0]
    for row in range(4):
        torch.testing.assert_close(outputs[row, five_tokens[row]], alone)
    assert (outputs[4] == 0).all()


@pytest.mark.parametrize("mixer_class", MIXERS)
def test_row_of_padding_gives_finite_gradients(mixer_class):
    mixer = make_mixer(mixer_class, bidirectional=True)
    hidden_states = torch.randn(2, 4, D_MODEL, requires_grad=True)
    attention_mask = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0]]).bool()
    outputs = mixer(hidden_states, attention_mask)[0]
    found = gradients(mixer, outputs, hidden_states)
    assert len(found) == 1 + len(list(mixer.parameters()))
    assert all(gradient.isfinite().all() for gradient in found)
    assert (found[0][~attention_mask] == 0).all()


@pytest.mark.parametrize("mixer_class", MIXERS)
def test_pooling_takes_the_ends_of_each_row(mixer_class):
    hidden_states = torch.randn(*RAGGED_MASK.shape, D_MODEL)
    last, first = torch.tensor([4, 6, 6, 6]), torch.tensor([0, 2, 1, 0])
    rows = torch.arange(4)
    one_way = make_mixer(mixer_class)
    torch.testing.assert_close(one_way.pool(hidden_states, RAGGED_MASK)[:4], hidden_states[rows, last])
    two_way = make_mixer(mixer_class, bidirectional=True)
    pooled = two_way.pool(hidden_states, RAGGED_MASK)
    half = D_MODEL // 2
    torch.testing.assert_close(pooled[:4, :half], hidden_states[rows, last, :half])
    torch.testing.assert_close(pooled[:4, half:], hidden_states[rows, first, half:])
    assert (pooled[4] == 0).all()
    every_token = torch.ones_like(RAGGED_MASK)
    torch.testing.assert_close(two_way.pool(hidden_states), two_way.pool(hidden_states, every_token))


@pytest.mark.parametrize("layer_class", [RecurrentCacheLayer, StaticRecurrentCacheLayer])
@pytest.mark.parametrize("prefill", [0, 1, 3])
@pytest.mark.parametrize("mixer_class", MIXERS)
def test_cached_equals_uncached(mixer_class, prefill, layer_class):
    mixer = make_mixer(mixer_class, is_decoder=True)
    hidden_states, context = torch.randn(2, 6, D_MODEL), torch.randn(2, D_MODEL)
    expected = mixer(hidden_states, pooled_context=context)[0]
    cache = make_cache(layer_class, max_cache_len=6)
    steps = [hidden_states[:, :prefill]] if prefill else []
    steps += hidden_states[:, prefill:].split(1, dim=1)
    with torch.no_grad():
        outputs = [mixer(step, cache=cache, pooled_context=context)[0] for step in steps]
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected)
    assert cache.get_seq_length(0) == 6
    assert len(cache.layers[0].states) == mixer.num_states


@pytest.mark.parametrize("mixer_class", MIXERS)
def test_cached_equals_uncached_after_ragged_prefill(mixer_class):
    mixer = make_mixer(mixer_class, is_decoder=True)
    batch_size, prefill = RAGGED_MASK.shape
    hidden_states, context = torch.randn(batch_size, prefill + 3, D_MODEL), torch.randn(batch_size, D_MODEL)
    full_mask = torch.cat([RAGGED_MASK, torch.tensor([[1, 1, 1]] * 4 + [[0, 1, 1]]).bool()], dim=1)
    expected = mixer(hidden_states, full_mask, pooled_context=context)[0]
    cache = make_cache()
    outputs = [
        mixer(hidden_states[:, part], full_mask[:, part], cache=cache, pooled_context=context)[0]
        for part in (slice(0, prefill), slice(prefill, prefill + 1), slice(prefill + 1, None))
    ]
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected)


@pytest.mark.parametrize("mixer_class", FUSED)
def test_decoder_starts_from_context(mixer_class):
    mixer = make_mixer(mixer_class, is_decoder=True)
    hidden_states, context = torch.randn(2, 3, D_MODEL), torch.randn(2, D_MODEL, requires_grad=True)
    bridged = nn.functional.linear(context, mixer.bridge_proj.weight, mixer.bridge_proj.bias)
    hidden = bridged[:, :D_MODEL].tanh()[None].contiguous()
    start = (hidden, bridged[:, D_MODEL:][None].contiguous()) if mixer_class is LSTMMixer else hidden
    expected = torch_module_of(mixer)(hidden_states, start)[0]
    outputs = mixer(hidden_states, pooled_context=context)[0]
    torch.testing.assert_close(outputs, expected)
    assert_all_close(torch.autograd.grad(outputs.sum(), context), torch.autograd.grad(expected.sum(), context))
    without_context = torch_module_of(mixer)(hidden_states)[0]
    torch.testing.assert_close(mixer(hidden_states)[0], without_context)


def test_ssru_starts_from_zero_whatever_the_context():
    mixer = make_mixer(SSRUMixer, is_decoder=True)
    hidden_states = torch.randn(2, 3, D_MODEL)
    outputs = mixer(hidden_states, pooled_context=torch.randn(2, D_MODEL))[0]
    torch.testing.assert_close(outputs, mixer(hidden_states)[0])


def recurrence(forget, update, state):
    cells = []
    for position in range(forget.shape[1]):
        state = forget[:, position] * state + update[:, position]
        cells.append(state)
    return torch.stack(cells, dim=1)


SCANS = [_scan_by_steps, _scan_by_doubling]


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("length", [1, 2, 7, 64, 100])
def test_scans_equal_the_recurrence(length, scan):
    forget, update, state = torch.rand(2, length, 3), torch.randn(2, length, 3), torch.randn(2, 3)
    torch.testing.assert_close(scan(forget, update, state), recurrence(forget, update, state))


def test_recurrence_gradients():
    inputs = [torch.rand(2, 5, 3), torch.randn(2, 5, 3), torch.randn(2, 3)]
    inputs = [tensor.double().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(linear_recurrence, inputs)
    inputs = [tensor.detach().float().requires_grad_() for tensor in inputs]
    weighting = torch.randn(2, 5, 3)
    ours = torch.autograd.grad((linear_recurrence(*inputs) * weighting).sum(), inputs)
    theirs = torch.autograd.grad((recurrence(*inputs) * weighting).sum(), inputs)
    assert_all_close(ours, theirs)


@pytest.mark.parametrize("forget_value", [0.0, 1e-30, 1.0])
def test_recurrence_stays_finite_at_the_gate_limits(forget_value):
    forget = torch.full((1, 512, 2), forget_value, requires_grad=True)
    update = torch.randn(1, 512, 2)
    state = torch.randn(1, 2)
    for scan in SCANS:
        with torch.no_grad():
            assert scan(forget, update, state).isfinite().all()
    linear_recurrence(forget, update, state).sum().backward()
    assert forget.grad.isfinite().all()


def test_ssru_keeps_its_state_in_float32():
    mixer = make_mixer(SSRUMixer, is_decoder=True).to(torch.bfloat16)
    cache = make_cache()
    outputs = mixer(torch.randn(2, 3, D_MODEL, dtype=torch.bfloat16), cache=cache)[0]
    assert outputs.dtype == torch.bfloat16
    assert cache.layers[0].states[0].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixer_class", MIXERS)
def test_low_precision_is_close_and_finite(mixer_class, dtype):
    mixer = make_mixer(mixer_class, bidirectional=True)
    hidden_states = torch.randn(*RAGGED_MASK.shape, D_MODEL)
    expected = mixer(hidden_states, RAGGED_MASK)[0]
    low = copy.deepcopy(mixer).to(dtype)
    outputs = low(hidden_states.to(dtype), RAGGED_MASK)[0]
    assert outputs.dtype == dtype
    torch.testing.assert_close(outputs.float(), expected, rtol=0.05, atol=0.05)
    outputs.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in low.parameters())


@pytest.mark.parametrize("mixer_class", MIXERS)
def test_autocast(mixer_class):
    mixer = make_mixer(mixer_class, is_decoder=True)
    hidden_states, context = torch.randn(2, 5, D_MODEL), torch.randn(2, D_MODEL)
    expected = mixer(hidden_states, pooled_context=context)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = mixer(hidden_states, pooled_context=context)[0]
        cache = make_cache()
        steps = [mixer(step, cache=cache, pooled_context=context)[0] for step in hidden_states.split(1, dim=1)]
    assert outputs.dtype == steps[0].dtype == torch.bfloat16
    torch.testing.assert_close(outputs.float(), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(torch.cat(steps, dim=1).float(), expected, rtol=0.05, atol=0.05)
    outputs.float().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in mixer.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("mixer_class", MIXERS)
def test_runs_on_meta(mixer_class):
    with torch.device("meta"):
        mixer = mixer_class(D_MODEL, is_decoder=False, bidirectional=True, layer_idx=0)
        mixer.init_recurrent_weights()
        outputs = mixer(torch.randn(2, 5, D_MODEL), torch.ones(2, 5).bool())[0]
    assert outputs.is_meta and outputs.shape == (2, 5, D_MODEL)


@pytest.mark.parametrize("is_decoder", [False, True])
@pytest.mark.parametrize("mixer_class", MIXERS)
def test_no_value_reaches_the_host(mixer_class, is_decoder):
    """Fake tensors have no values: whatever asks for one, and so would wait for a GPU, raises."""
    with FakeTensorMode():
        mixer = mixer_class(D_MODEL, is_decoder=is_decoder, bidirectional=not is_decoder, layer_idx=0)
        hidden_states = torch.randn(2, 5, D_MODEL)
        attention_mask = torch.ones(2, 5).bool()
        cache = make_cache() if is_decoder else None
        outputs = mixer(hidden_states, attention_mask, cache=cache)[0]
        outputs = outputs + mixer(hidden_states, attention_mask)[0]
        assert mixer.pool(outputs, attention_mask).shape == (2, D_MODEL)
        with pytest.raises(DataDependentOutputException):
            bool(attention_mask.all())


@pytest.mark.parametrize("mixer_class", MIXERS)
def test_gradient_checkpointing_changes_nothing(mixer_class):
    mixer = make_mixer(mixer_class, bidirectional=True)
    hidden_states = torch.randn(*RAGGED_MASK.shape, D_MODEL, requires_grad=True)
    plain = mixer(hidden_states, RAGGED_MASK)[0]
    expected = torch.autograd.grad(plain.square().sum(), [hidden_states, *mixer.parameters()])
    outputs = checkpoint(lambda states: mixer(states, RAGGED_MASK)[0], hidden_states, use_reentrant=False)
    found = torch.autograd.grad(outputs.square().sum(), [hidden_states, *mixer.parameters()])
    assert_all_close(found, expected)


@pytest.mark.parametrize("mixer_class", [LSTMMixer, SSRUMixer])
def test_compiles(mixer_class):
    mixer = make_mixer(mixer_class, is_decoder=True)
    hidden_states = torch.randn(2, 5, D_MODEL)
    torch._dynamo.reset()
    compiled = torch.compile(mixer, backend="eager")
    outputs = compiled(hidden_states, torch.ones(2, 5).bool())[0]
    torch.testing.assert_close(outputs, mixer(hidden_states)[0])
    outputs.sum().backward()
    step = torch.compile(mixer, backend="eager", fullgraph=True)
    torch.testing.assert_close(step(hidden_states[:, :1])[0], mixer(hidden_states)[0][:, :1])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("mixer_class", MIXERS)
def test_without_biases(mixer_class, bidirectional):
    mixer = make_mixer(mixer_class, bidirectional=bidirectional, bias=False)
    assert not any("bias" in name for name, _ in mixer.named_parameters())
    with_zeros = make_mixer(mixer_class, bidirectional=bidirectional)
    nn.Module.load_state_dict(with_zeros, mixer.state_dict(), strict=False)
    for name, parameter in with_zeros.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
    hidden_states = torch.randn(2, 4, D_MODEL)
    torch.testing.assert_close(mixer(hidden_states)[0], with_zeros(hidden_states)[0])


def test_initial_weights():
    mixer = LSTMMixer(16, is_decoder=True, bidirectional=False)
    mixer.init_recurrent_weights()
    for block in mixer.hh_proj.weight.chunk(4):
        torch.testing.assert_close(block @ block.T, torch.eye(16))
    limit = (6 / 32) ** 0.5
    for block in (*mixer.ih_proj.weight.chunk(4), *mixer.bridge_proj.weight.chunk(2)):
        assert 0.8 * limit < block.abs().max() <= limit
    torch.testing.assert_close(mixer.ih_proj.bias.view(4, 16), torch.eye(4)[1][:, None].expand(4, 16))
    assert (mixer.hh_proj.bias == 0).all() and (mixer.bridge_proj.bias == 0).all()


@pytest.mark.parametrize("mixer_class", MIXERS)
def test_initialisation_reaches_every_parameter_but_those_loaded(mixer_class):
    mixer = mixer_class(D_MODEL, is_decoder=True, bidirectional=False)
    for parameter in mixer.parameters():
        nn.init.constant_(parameter, 100.0)
    loaded = next(mixer.parameters())
    loaded._is_hf_initialized = True
    mixer.init_recurrent_weights()
    assert (loaded == 100).all()
    others = [parameter for parameter in mixer.parameters() if parameter is not loaded]
    assert others and not any((parameter == 100).any() for parameter in others)


class TinyModel(nn.Module):
    """What PEFT wraps: two mixers of one class, an encoder's and a decoder's."""

    def __init__(self, mixer_class):
        super().__init__()
        self.reader = make_mixer(mixer_class, bidirectional=True)
        self.writer = make_mixer(mixer_class, is_decoder=True)

    def forward(self, hidden_states, attention_mask=None, adapter_names=None):
        context = self.reader.pool(self.reader(hidden_states, attention_mask)[0], attention_mask)
        return self.writer(hidden_states + context[:, None], attention_mask, pooled_context=context)[0]

    def by_steps(self, hidden_states):
        """Without the fused kernel: both ways of the reader token by token, then the writer with a cache."""
        every_token = torch.ones(hidden_states.shape[:2], dtype=torch.bool)
        read = self.reader(hidden_states, every_token, cache=make_cache())[0]
        context = self.reader.pool(read)
        cache = make_cache()
        steps = [
            self.writer(step, cache=cache, pooled_context=context)[0]
            for step in (hidden_states + context[:, None]).split(1, dim=1)
        ]
        return torch.cat(steps, dim=1)


def make_lora(**kwargs):
    peft = pytest.importorskip("peft", reason="adapters need peft")
    targets = "|".join(["ih_proj", "hh_proj", "ih_proj_reverse", "hh_proj_reverse", "in_proj", "bridge_proj"])
    return peft, peft.LoraConfig(r=4, target_modules=rf".*\.({targets})", init_lora_weights=False, **kwargs)


@pytest.mark.parametrize("use_dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("mixer_class", MIXERS)
def test_adapters_wrapped_merged_reloaded(mixer_class, use_dora, tmp_path):
    base = TinyModel(mixer_class)
    peft, lora_config = make_lora(use_dora=use_dora)
    hidden_states = torch.randn(*RAGGED_MASK.shape, D_MODEL)
    plain = base(hidden_states)
    model = peft.get_peft_model(copy.deepcopy(base), lora_config)
    expected = model(hidden_states)
    assert not torch.allclose(expected, plain, atol=1e-2)
    torch.testing.assert_close(model.base_model.model.by_steps(hidden_states), expected, rtol=1e-4, atol=1e-5)
    expected.square().sum().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(trained) > 0 and all(parameter.grad.abs().sum() > 0 for parameter in trained)

    ragged = model(hidden_states, RAGGED_MASK)
    model.save_pretrained(tmp_path)
    reloaded = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    torch.testing.assert_close(reloaded(hidden_states), expected)
    merged = model.merge_and_unload(safe_merge=True)
    torch.testing.assert_close(merged(hidden_states), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged(hidden_states, RAGGED_MASK), ragged, rtol=1e-4, atol=1e-5)


def test_adapter_gradients_equal_those_of_steps():
    peft, lora_config = make_lora()
    model = peft.get_peft_model(TinyModel(LSTMMixer), lora_config)
    hidden_states = torch.randn(3, 5, D_MODEL)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = torch.autograd.grad(model(hidden_states).square().sum(), trained)
    steps = torch.autograd.grad(model.base_model.model.by_steps(hidden_states).square().sum(), trained)
    assert_all_close(fused, steps, rtol=1e-3, atol=1e-4)


def test_adapter_dropout_draws_one_mask_for_a_sequence():
    peft, lora_config = make_lora(lora_dropout=0.5)
    model = peft.get_peft_model(TinyModel(GRUMixer), lora_config).train()
    mixer = model.base_model.model.writer
    hidden_states = torch.randn(2, 4, D_MODEL)
    torch.manual_seed(1)
    outputs = mixer(hidden_states)[0]
    assert not torch.allclose(mixer(hidden_states)[0], outputs)
    drawn = make_mixer(GRUMixer)
    torch.manual_seed(1)
    for name in ("ih_proj", "hh_proj"):
        weight, bias = _effective_weights(getattr(mixer, name), hidden_states)
        getattr(drawn, name).load_state_dict({"weight": weight, "bias": bias})
    torch.testing.assert_close(outputs, drawn(hidden_states)[0])


def test_batches_of_mixed_adapters():
    peft, lora_config = make_lora()
    model = peft.get_peft_model(TinyModel(LSTMMixer), lora_config)
    model.add_adapter("other", make_lora()[1])
    model.eval()
    hidden_states = torch.randn(3, 5, D_MODEL)
    mixed = model(hidden_states, adapter_names=["default", "other", "__base__"])
    torch.testing.assert_close(mixed[0], model(hidden_states)[0], rtol=1e-4, atol=1e-5)
    model.set_adapter("other")
    torch.testing.assert_close(mixed[1], model(hidden_states)[1], rtol=1e-4, atol=1e-5)
    with model.disable_adapter():
        torch.testing.assert_close(mixed[2], model(hidden_states)[2], rtol=1e-4, atol=1e-5)


def test_adapters_under_autocast():
    peft, lora_config = make_lora()
    model = peft.get_peft_model(TinyModel(LSTMMixer), lora_config)
    hidden_states = torch.randn(3, 5, D_MODEL)
    expected = model(hidden_states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(hidden_states)
    torch.testing.assert_close(outputs.float(), expected, rtol=0.05, atol=0.1)
    low = model.to(torch.bfloat16)(hidden_states.bfloat16())
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.1)


def test_hooked_children_see_the_real_inputs():
    mixer = make_mixer(GRUMixer)
    hidden_states = torch.randn(2, 4, D_MODEL)
    expected = mixer(hidden_states)[0]
    seen = []
    mixer.ih_proj.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    torch.testing.assert_close(mixer(hidden_states)[0], expected)
    torch.testing.assert_close(seen[0], hidden_states)


def test_children_with_a_forward_of_their_own_are_asked():
    """Offloading replaces `forward`: the weight in sight is then not the one in use."""
    mixer = make_mixer(GRUMixer)
    hidden_states = torch.randn(2, 4, D_MODEL)
    expected = mixer(hidden_states)[0]
    real = copy.deepcopy(mixer.ih_proj)
    nn.init.zeros_(mixer.ih_proj.weight)
    mixer.ih_proj.forward = real.forward
    torch.testing.assert_close(mixer(hidden_states)[0], expected)


def test_quantised_children():
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="4-bit children need bitsandbytes")
    mixer = make_mixer(LSTMMixer, d_model=64)
    for name in ("ih_proj", "hh_proj"):
        child = getattr(mixer, name)
        quantised = bitsandbytes.nn.Linear4bit(64, 256, compute_dtype=torch.float32)
        quantised.load_state_dict(child.state_dict())
        setattr(mixer, name, quantised.to("cpu"))
    hidden_states = torch.randn(2, 5, 64)
    cache = make_cache()
    with torch.no_grad():
        steps = [mixer(step, cache=cache)[0] for step in hidden_states.split(1, dim=1)]
        torch.testing.assert_close(mixer(hidden_states)[0], torch.cat(steps, dim=1), rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("mixer_class", MIXERS)
def test_gpu_equals_cpu(mixer_class):
    mixer = make_mixer(mixer_class, bidirectional=True)
    hidden_states = torch.randn(*RAGGED_MASK.shape, D_MODEL, requires_grad=True)
    expected = mixer(hidden_states, RAGGED_MASK)[0]
    expected_gradients = torch.autograd.grad(expected.square().sum(), [hidden_states, *mixer.parameters()])
    mixer = mixer.eval().cuda()
    on_gpu = hidden_states.detach().cuda().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = mixer(on_gpu, RAGGED_MASK.cuda())[0]
    found = torch.autograd.grad(outputs.square().sum(), [on_gpu, *mixer.parameters()])
    torch.testing.assert_close(outputs.cpu(), expected, rtol=1e-3, atol=1e-4)
    assert_all_close([gradient.cpu() for gradient in found], expected_gradients, rtol=1e-2, atol=1e-3)


def test_two_way_decoder_is_refused():
    with pytest.raises(ValueError, match="`bidirectional` must be False when `is_decoder` is True"):
        LSTMMixer(8, is_decoder=True, bidirectional=True)


def test_odd_width_cannot_be_halved():
    with pytest.raises(ValueError, match=r"`d_model` must be even when `bidirectional` is True: .* got 7"):
        SSRUMixer(7, is_decoder=False, bidirectional=True)


def test_cache_needs_a_layer_index():
    mixer = GRUMixer(8, is_decoder=True, bidirectional=False)
    with pytest.raises(ValueError, match="`layer_idx` must be set where `cache` is used, got None"):
        mixer(torch.randn(1, 1, 8), cache=make_cache())
