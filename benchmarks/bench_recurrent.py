# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Recurrent layers: the fused decoder against a loop over its steps, and the mixers against `nn.LSTM` and `nn.GRU`.

    python benchmarks/bench_recurrent.py
    python benchmarks/bench_recurrent.py --models luong2015 --threads 1

The models take a whole training step, loss and gradients, in bfloat16 where the device computes in it. The step loop
is the same model and the same weights, its decoder called token by token. Quality is the largest difference of any
gradient, in float64, relative to the largest gradient.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration
from hf_attn.modeling_loss import chunked_sequence_loss
from hf_attn.modeling_recurrent import FusedRecurrentMixer, GRUMixer, LSTMMixer
from hf_attn.modeling_versions import CACHE_NAME
from hf_attn.training.hardware import computes_bf16
from measuring import interleave, repeats_for, timed, warn_if_busy
from models import fresh_model
from recording import Row, command_line, compare, write_rows


MODELS = ("luong2015", "bahdanau2015", "hybrid_lstm")
GOAL = 1.8
VOCAB_SIZE = 8000
BATCH, LENGTH = 64, 25
# Ours, torch's, and whether it reads both ways.
MIXERS: dict[str, tuple[type[FusedRecurrentMixer], type[nn.RNNBase], bool]] = {
    "lstm": (LSTMMixer, nn.LSTM, False),
    "gru": (GRUMixer, nn.GRU, False),
    "lstm, both ways": (LSTMMixer, nn.LSTM, True),
    "gru, both ways": (GRUMixer, nn.GRU, True),
}
MIXER_BATCH, MIXER_LENGTH, MIXER_WIDTH = 32, 50, 512


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="presets with a recurrent decoder")
    parser.add_argument("--mixers", nargs="*", choices=MIXERS, default=list(MIXERS))
    parser.add_argument("--quick", action="store_true", help="shorter and fewer rounds")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    arguments = parser.parse_args()
    warn_if_busy()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    rounds, seconds = (5, 1.0) if arguments.quick else (9, 3.0)
    rows = [model_row(name, rounds, seconds, arguments) for name in arguments.models]
    rows += [mixer_row(name, rounds, seconds, arguments) for name in arguments.mixers]
    write_rows("recurrent", rows)


def model_row(name: str, rounds: int, seconds: float, arguments: argparse.Namespace) -> Row:
    """A training step of a preset, fused and by steps."""
    model, step = training_step(name)
    model.double()  # in float32 a rounding may take a ReLU to the other side of 0
    gradients = []
    for loss_of in (fused_loss, stepwise_loss):
        step(loss_of, has_bf16=False)
        gradients.append({key: one.grad.clone() for key, one in model.named_parameters() if one.grad is not None})
    difference = relative_difference(gradients[0].values(), (gradients[1][key] for key in gradients[0]))
    model.float()
    samples = interleave_work(
        {
            "fused": lambda: step(fused_loss, computes_bf16()),
            "step loop": lambda: step(stepwise_loss, computes_bf16()),
        },
        2.0 * BATCH * LENGTH,
        rounds,
        seconds,
    )
    return compare(
        f"training step of {name}, {BATCH} × {LENGTH} tokens",
        ("fused", samples["fused"]),
        ("step loop", samples["step loop"]),
        "tokens",
        command=command_line(__file__, models=name, mixers=(), quick=arguments.quick, threads=arguments.threads),
        goal=GOAL,
        quality=f"gradients differ by {difference:.0e}",
    )


def training_step(name: str) -> tuple[HfAttnForConditionalGeneration, Callable[[Callable, bool], None]]:
    """A preset with fresh weights, and what makes its gradients for one batch from a loss, in bfloat16 or not."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = HfAttnConfig.from_preset(name, vocab_size=VOCAB_SIZE, dropout=0.0)
    attention = "sdpa" if device == "cuda" else "eager"
    model = fresh_model(config, attn_implementation=attention).to(device).train()
    torch.manual_seed(0)
    source, target = torch.randint(5, VOCAB_SIZE, (2, BATCH, LENGTH), device=device)

    def step(loss_of: Callable, has_bf16: bool) -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=has_bf16):
            loss = loss_of(model, source, target)
        loss.backward()

    return model, step


def fused_loss(model: HfAttnForConditionalGeneration, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The model's own loss."""
    return model(input_ids=source, labels=target, skip_logits=True).loss


def stepwise_loss(model: HfAttnForConditionalGeneration, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The same loss with the decoder called for one token after the other; the loss itself is taken at once."""
    encoder, decoder = model.model.encoder, model.model.decoder
    states = encoder(input_ids=source).last_hidden_state
    pooled = encoder.pool(states, None) if decoder.needs_pooling else None
    start = torch.full_like(target[:, :1], model.config.decoder_start_token_id)
    outputs, cache = [], None
    for token in torch.cat([start, target[:, :-1]], dim=1).split(1, dim=1):
        output = decoder(
            input_ids=token,
            encoder_hidden_states=states,
            pooled_context=pooled,
            cache=cache,
            use_cache=True,
        )
        cache = getattr(output, CACHE_NAME)
        outputs.append(output.last_hidden_state)
    head = model.lm_head
    return chunked_sequence_loss(torch.cat(outputs, dim=1), head.weight, head.bias, target)


def mixer_row(name: str, rounds: int, seconds: float, arguments: argparse.Namespace) -> Row:
    """Forward and backward pass of one layer, ours and torch's, with the same weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mixer_class, torch_class, is_two_way = MIXERS[name]
    torch.manual_seed(0)
    mixer = mixer_class(MIXER_WIDTH, is_decoder=False, bidirectional=is_two_way).to(device)
    hidden = MIXER_WIDTH // 2 if is_two_way else MIXER_WIDTH
    peer = torch_class(MIXER_WIDTH, hidden, batch_first=True, bidirectional=is_two_way).to(device)
    copy_weights(mixer, peer)
    inputs = torch.randn(MIXER_BATCH, MIXER_LENGTH, MIXER_WIDTH, device=device, requires_grad=True)

    def run(layer: nn.Module) -> torch.Tensor:
        inputs.grad = None
        layer.zero_grad(set_to_none=True)
        output = layer(inputs)[0]
        output.square().sum().backward()
        return output.detach()

    results = []
    for layer in (mixer, peer):
        output = run(layer)
        results.append((output, inputs.grad.clone()))
    difference = relative_difference(*results)
    samples = interleave_work(
        {"hf_attn": lambda: run(mixer), "torch": lambda: run(peer)}, MIXER_BATCH * MIXER_LENGTH, rounds, seconds
    )
    return compare(
        f"layer {name}, {MIXER_BATCH} × {MIXER_LENGTH} × {MIXER_WIDTH}, forward and backward",
        (mixer_class.__name__, samples["hf_attn"]),
        (f"nn.{torch_class.__name__}", samples["torch"]),
        "positions",
        command=command_line(__file__, models=(), mixers=name, quick=arguments.quick, threads=arguments.threads),
        quality=f"outputs and gradients differ by {difference:.0e}",
    )


def copy_weights(mixer: FusedRecurrentMixer, peer: nn.RNNBase) -> None:
    """Give torch's layer the weights of ours."""
    for suffix in ("", "_reverse") if mixer.bidirectional else ("",):
        for projection in ("ih", "hh"):
            child = getattr(mixer, f"{projection}_proj{suffix}")
            with torch.no_grad():
                getattr(peer, f"weight_{projection}_l0{suffix}").copy_(child.weight)
                getattr(peer, f"bias_{projection}_l0{suffix}").copy_(child.bias)


def interleave_work(works: dict[str, Callable], amount: float, rounds: int, seconds: float) -> dict[str, list]:
    """Rounds of about so many seconds."""
    systems = {}
    for name, work in works.items():
        repeats = repeats_for(work, seconds)
        systems[name] = lambda work=work, repeats=repeats: timed(work, amount, repeats)
    return interleave(systems, rounds)


def relative_difference(ours: Iterable[torch.Tensor], theirs: Iterable[torch.Tensor]) -> float:
    """The largest difference of two lists of tensors, relative to the largest number in them."""
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]] = list(zip(ours, theirs, strict=True))
    largest = max(other.abs().max().item() for _, other in pairs)
    return max((one - other).abs().max().item() for one, other in pairs) / largest


if __name__ == "__main__":
    main()
