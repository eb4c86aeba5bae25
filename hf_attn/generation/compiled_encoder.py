# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""An encoder of eight-bit attention layers that is computed in one call."""

import ctypes
from collections.abc import Callable
from itertools import pairwise
from threading import Thread
from typing import Any

import torch

from ..modeling_hf_attn import HfAttnEncoder, HfAttnEncoderOutput
from .compiled_stack import FINE, CompiledStack, compiled_encoder
from .int8_kernel import native_library


# Sentences of which a thread has at least so many.
_SENTENCES_OF_A_THREAD = 4


def parts_for_threads(number: int) -> list[slice]:
    """As many slices of `number` sentences as there are threads for."""
    parts = max(1, min(torch.get_num_threads(), number // _SENTENCES_OF_A_THREAD))
    ends = [number * part // parts for part in range(parts + 1)]
    return [slice(first, end) for first, end in pairwise(ends)]


def run_in_threads(function: Callable[[slice], None], parts: list[slice]) -> None:
    """Calls `function`, which raises nothing, for all parts at once."""
    threads = [Thread(target=function, args=(part,)) for part in parts[1:]]
    for thread in threads:
        thread.start()
    function(parts[0])
    for thread in threads:
        thread.join()


class CompiledEncoder(HfAttnEncoder):
    """
    An encoder whose layers have eight bits, as `pack_linears` makes it: what it can, it computes in compiled code, one
    call for all layers, without the padding. States at padding are then 0. All else goes the way of `HfAttnEncoder`.
    """

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        source_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As that of `HfAttnEncoder`."""
        if inputs_embeds is None and input_ids is not None and self._is_plain(input_ids, attention_mask, kwargs):
            compiled = compiled_encoder(self)
            states = None if compiled is None else self._states(compiled, input_ids, attention_mask)
            if states is not None:
                copyable = (input_ids if source_ids is None else source_ids) if self.config.copy_attention else None
                return HfAttnEncoderOutput(last_hidden_state=states, source_ids=copyable)
        return super().forward(input_ids, attention_mask, inputs_embeds, source_ids, **kwargs)

    def _is_plain(self, input_ids: torch.Tensor, mask: torch.Tensor | None, options: dict[str, Any]) -> bool:
        """Whether nothing is asked for but hidden states without gradients."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        names = ("output_attentions", "output_hidden_states")
        if any(getattr(self.config, name) if options.get(name) is None else options[name] for name in names):
            return False
        if options.get("return_dict") is False or not set(options) <= {*names, "return_dict"}:
            return False
        shape, limit = input_ids.shape, self.positions.max_positions
        if (
            input_ids.dtype != torch.int64
            or input_ids.device.type != "cpu"
            or len(shape) != 2
            or not input_ids.numel()
        ):
            return False
        return (limit is None or shape[1] <= limit) and (mask is None or mask.shape == shape)

    def _states(
        self, compiled: CompiledStack, input_ids: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor | None:
        """What leaves the last layer, float32 (batch, length, d_model); `None` where the compiled code refuses."""
        library: Any = native_library()
        sentences, length = input_ids.shape
        shape = (sentences, length, compiled.d_model)
        states = torch.empty(shape) if mask is None else torch.zeros(shape)
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

        run_in_threads(read, parts_for_threads(sentences))
        return states if set(results) == {FINE} else None
