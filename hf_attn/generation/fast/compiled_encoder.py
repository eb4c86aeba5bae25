# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""An encoder of eight-bit attention layers that is computed in one call."""

import ctypes
from collections.abc import Callable
from itertools import pairwise
from threading import Thread
from typing import Any

import torch

from ...modeling_stacks import HfAttnEncoder, HfAttnEncoderOutput
from .compiled_stack import FINE, CompiledStack, compiled_encoder
from .int8_kernel import native_library


# Rows of a batch of which a thread has at least so many.
_ROWS_OF_A_THREAD = 4


def parts_for_threads(batch_size: int) -> list[slice]:
    """Slices of a batch, as many as there are threads for."""
    parts = max(1, min(torch.get_num_threads(), batch_size // _ROWS_OF_A_THREAD))
    ends = [batch_size * part // parts for part in range(parts + 1)]
    return [slice(first, end) for first, end in pairwise(ends)]


def run_in_threads(function: Callable[[slice], None], parts: list[slice]) -> None:
    """Calls `function`, which raises nothing, for all parts at once."""
    threads = [Thread(target=function, args=(part,)) for part in parts[1:]]
    for thread in threads:
        thread.start()
    function(parts[0])
    for thread in threads:
        thread.join()


def _has_holes(mask: torch.Tensor) -> bool:
    """Whether padding parts the real tokens of a row: biases count it, compiled code does not see it."""
    starts = (mask[:, 1:].bool() & ~mask[:, :-1].bool()).sum(dim=1) + mask[:, 0].bool()
    return bool((starts > 1).any())


class CompiledEncoder:
    """
    The `forward` of an encoder whose layers have eight bits, as `pack_linears` sets it.

    Whatever it can, it computes in compiled code, one call for all layers, without padding; states at padding are then
    0. All else goes the way of the encoder's class.
    """

    def __init__(self, encoder: HfAttnEncoder):
        self.encoder = encoder

    def __call__(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        source_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `HfAttnEncoder.forward`."""
        encoder = self.encoder
        if inputs_embeds is None and input_ids is not None and self._is_plain(input_ids, attention_mask, kwargs):
            compiled = compiled_encoder(encoder)
            states = None if compiled is None else self._states(compiled, input_ids, attention_mask)
            if states is not None:
                copyable = None
                if encoder.config.copy_attention:
                    copyable = input_ids if source_ids is None else source_ids
                return HfAttnEncoderOutput(last_hidden_state=states, source_ids=copyable)
        return type(encoder).forward(encoder, input_ids, attention_mask, inputs_embeds, source_ids, **kwargs)

    def _is_plain(self, input_ids: torch.Tensor, mask: torch.Tensor | None, options: dict[str, Any]) -> bool:
        """Whether nothing is asked for but hidden states without gradients."""
        encoder = self.encoder
        if encoder.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        names = ("output_attentions", "output_hidden_states")
        if any(getattr(encoder.config, name) if options.get(name) is None else options[name] for name in names):
            return False
        if not set(options) <= {*names, "return_dict"}:
            return False
        if options.get("return_dict", encoder.config.return_dict) is False:
            return False
        shape, positions = input_ids.shape, encoder.positions
        if input_ids.dtype != torch.int64 or input_ids.device.type != "cpu" or len(shape) != 2 or not all(shape):
            return False
        if positions.max_positions is not None and shape[1] > positions.max_positions:
            return False
        if mask is not None and (mask.shape != shape or mask.device != input_ids.device):
            return False
        # The compiled code looks embeddings up, and adds nothing to them.
        if encoder.match_embedding is not None and bool(encoder.match_embedding.matches(input_ids, mask).any()):
            return False
        if mask is None:
            return True
        # The compiled code counts real tokens alone.
        if encoder.counts_padding and bool((mask[:, 1:].bool() & ~mask[:, :-1].bool()).any()):
            return False
        return not (positions.biases_scores and _has_holes(mask))

    def _states(
        self, compiled: CompiledStack, input_ids: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Outputs of the last layer, float32 (batch_size, length, d_model); `None` where the compiled code refuses."""
        library: Any = native_library()
        batch_size, length = input_ids.shape
        shape = (batch_size, length, compiled.d_model)
        make: Any = torch.empty if mask is None else torch.zeros
        states = make(shape, dtype=torch.float32, device="cpu")
        input_ids = input_ids.contiguous()
        is_real = None if mask is None else mask.bool().contiguous()
        tables = compiled.tables(length)
        results = []

        def read(part: slice) -> None:
            results.append(
                library.encoder_read(
                    ctypes.byref(compiled.structure), ctypes.byref(tables), input_ids[part].data_ptr(),
                    None if is_real is None else is_real[part].data_ptr(), part.stop - part.start, length,
                    states[part].data_ptr(),
                )
            )  # fmt: skip

        run_in_threads(read, parts_for_threads(batch_size))
        return states if set(results) == {FINE} else None
