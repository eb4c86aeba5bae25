# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`DecoderSteps` in compiled code, for decoders of eight-bit layers: one call a step, or a whole greedy search."""

import ctypes
import weakref
from typing import Any

import numpy as np
import torch

from ...modeling_hf_attn import HfAttnForConditionalGeneration
from .compiled_encoder import parts_for_threads, run_in_threads
from .compiled_stack import FINE, REFUSED, CompiledStack, compiled_decoder
from .decoder_steps import Sources, without_hooks
from .int8_kernel import native_library


_NO_MEMORY = "No memory is left for the states of a decoder."


def compiled_steps(model: HfAttnForConditionalGeneration, sources: Sources) -> "CompiledSteps | None":
    """The steps of a batch; `None` where the compiled code lacks a part of the model."""
    states, mask = sources.states, sources.padding_mask
    if states.dtype != torch.float32 or states.device.type != "cpu" or not states.shape[1]:
        return None
    if mask is not None and (mask.shape != states.shape[:2] or not bool(mask.any(dim=1).all())):
        return None
    stack = compiled_decoder(model)
    return None if stack is None or states.shape[2] != stack.d_model else CompiledSteps(model, stack, sources)


class _Decoder:
    """The state of a search in compiled code, which is freed with this object."""

    def __init__(self, stack: CompiledStack, states: torch.Tensor, mask: torch.Tensor | None, num_beams: int):
        library: Any = native_library()
        # The compiled state points into it.
        self.stack = stack
        self.pointer = library.decoder_new(
            ctypes.byref(stack.structure), states.data_ptr(), None if mask is None else mask.data_ptr(),
            len(states), states.shape[1], num_beams,
        )  # fmt: skip
        if not self.pointer:
            raise MemoryError(_NO_MEMORY)
        weakref.finalize(self, library.decoder_free, self.pointer)


class CompiledSteps:
    """
    The decoder and the output projection, for one batch of sources, as `DecoderSteps` has them.

    Args:
        model: In evaluation mode.
        stack: What `compiled_decoder` found of it.
        sources: float32, each with real tokens. Rows are `batch_size` times `num_beams`.
    """

    def __init__(self, model: HfAttnForConditionalGeneration, stack: CompiledStack, sources: Sources):
        self.library: Any = native_library()
        self.stack = stack
        self.decoder = model.model.decoder
        self.output_projection = without_hooks(model.lm_head)
        self.states = sources.states.contiguous()
        self.mask = None if sources.padding_mask is None else sources.padding_mask.contiguous()
        self.num_beams = sources.num_beams
        self.position = 0
        self._state: _Decoder | None = None

    @property
    def _pointer(self) -> int:
        if self._state is None:
            self._state = _Decoder(self.stack, self.states, self.mask, self.num_beams)
        return self._state.pointer

    def read(self, token_ids: torch.Tensor) -> torch.Tensor:
        """As `DecoderSteps.read`."""
        token_ids = token_ids.long().contiguous()
        outputs = torch.empty(len(token_ids), self.stack.d_model, dtype=torch.float32, device="cpu")
        tables = self.stack.tables(self.position + 1)
        state = self.library.decoder_read(
            self._pointer, ctypes.byref(tables), token_ids.data_ptr(), outputs.data_ptr()
        )
        self._check(state, token_ids, self.position)
        self.position += 1
        return outputs

    def _check(self, state: int, token_ids: torch.Tensor, position: int) -> None:
        """Raises what the model would, reading these tokens at that position, where the compiled code could not."""
        if state == REFUSED:
            self.decoder.position_ids(self.decoder.embedding(token_ids)[:, None], None, position)
        if state != FINE:
            raise MemoryError(_NO_MEMORY)

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """As `DecoderSteps.logits`."""
        return self.output_projection(hidden_states)

    def best(self, hidden_states: torch.Tensor, number: int) -> tuple[np.ndarray, np.ndarray]:
        """As `DecoderSteps.best`, of what was read last."""
        rows, number = len(hidden_states), min(number, int(self.stack.structure.output.num_outputs))
        tokens = np.empty((rows, number), dtype=np.int64)
        logits, log_sums = np.empty((rows, number), dtype=np.float32), np.empty((rows, 1), dtype=np.float32)
        pointers = (array.ctypes.data for array in (tokens, logits, log_sums))
        self.library.decoder_best(self._pointer, number, *pointers)
        return logits - log_sums, tokens

    def reorder(self, rows: torch.Tensor) -> None:
        """As `DecoderSteps.reorder`."""
        rows = rows.contiguous()
        if self.library.decoder_select(self._pointer, rows.data_ptr(), len(rows)) != FINE:
            raise IndexError("index out of range: a row to go on from is not in the batch")

    def keep(self, batch_indices: torch.Tensor) -> None:
        """As `DecoderSteps.keep`."""
        batch_indices = batch_indices.contiguous()
        if self.library.decoder_keep(self._pointer, batch_indices.data_ptr(), len(batch_indices)) != FINE:
            raise MemoryError(_NO_MEMORY)

    def search(self, sequences: torch.Tensor, length: int, end_token_ids: list[int]) -> int:
        """
        Greedy search of a batch of which nothing was read; sequences end at a token among `end_token_ids`.

        Args:
            sequences: int64 (rows, max_length), contiguous, filled with padding after the prompt. The results are
                written into it.
            length: Of the prompt.

        Returns:
            The tokens of the longest output, the prompt included.

        Raises:
            ValueError: The position table of the model ends before an output does.
        """
        max_length = sequences.shape[1]
        tables = self.stack.tables(max_length)
        end_tokens = np.array(end_token_ids, dtype=np.int64)
        outcomes: list[tuple[int, int]] = []

        def search(part: slice) -> None:
            mask = None if self.mask is None else self.mask[part]
            try:
                state = _Decoder(self.stack, self.states[part], mask, 1)
            except MemoryError:
                return
            reached = ctypes.c_long(length)
            outcome = self.library.decoder_search(
                state.pointer, ctypes.byref(tables), sequences[part].data_ptr(), max_length, end_tokens.ctypes.data,
                len(end_tokens), ctypes.byref(reached),
            )  # fmt: skip
            outcomes.append((outcome, reached.value))

        parts = parts_for_threads(len(sequences))
        run_in_threads(search, parts)
        if len(outcomes) < len(parts):
            raise MemoryError(_NO_MEMORY)
        worst, longest = max(outcomes)[0], max(reached for _, reached in outcomes)
        self._check(worst, sequences[:, :length].flatten(), longest - 1)
        return longest
