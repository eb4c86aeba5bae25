# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""When a loss or a gradient is not a finite number, training stops and says where, or leaves the update out."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer
from transformers.utils import logging

from ..arguments import RecipeTrainingArguments
from .checkpoints import last_checkpoint
from .resuming import samplers_by_epoch


logger = logging.get_logger(__name__)

# Rows that a message names.
_SHOWN_ROWS = 20


class FiniteTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` that never updates the weights by a gradient that is not finite.

    With `args.nonfinite_loss` "stop" it raises, on all processes, before the weights change, and names the rows of the
    batch, the first layer whose output is not finite, and the last good checkpoint. With "skip" it says the same in
    the log and leaves the update out. Under fp16 the scaler of the gradients, for which infinite ones are no fault,
    does both.
    """

    args: RecipeTrainingArguments

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        # Batches and losses of this process in the current update.
        self._update: list[tuple[dict[str, Any], torch.Tensor]] = []
        self._update_step = -1

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The parent's step; batch and loss are kept until the update."""
        if self._update_step != self.state.global_step:
            self._update, self._update_step = [], self.state.global_step
        batch = dict(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._update.append((batch, loss))
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """
        The parent's, checked.

        Raises:
            FloatingPointError: It is not finite, and `args.nonfinite_loss` is "stop".
        """
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is None or self.accelerator.scaler is not None:
            return norm
        whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not math.isfinite(whole):
            fault = self._describe()
            if self.args.nonfinite_loss == "stop":
                raise FloatingPointError(
                    f"{fault} The weights are as they were before. {self._last_good()} Look at these rows; a lower "
                    "`learning_rate`, more `warmup_steps` or `bf16` false may help; `nonfinite_loss`='skip' leaves "
                    "such updates out."
                )
            logger.warning(f"{fault} This update is left out.")
            model.zero_grad()
        return norm

    def _last_good(self) -> str:
        last = last_checkpoint(str(self.args.output_dir))
        return f"The last good checkpoint is {last!r}." if last else "There is no checkpoint yet."

    def _describe(self) -> str:
        """What is not finite, on which process, where; the same on all of them."""
        places = [place for place, (_, loss) in enumerate(self._update) if not torch.isfinite(loss)]
        place = places[0] if places else len(self._update) - 1
        batch, loss = self._update[place]
        model = cast(nn.Module, self.model)
        # On every process, since parts of a layer may lie on others.
        layer = first_nonfinite_layer(model, lambda: self.compute_loss(model, self._prepare_inputs(batch)))
        own = None
        if places:
            own = f"the loss is {loss.item()} on process {self.args.process_index}, for {self._rows(place)}; " + (
                f"{layer} is the first that is not finite" if layer else "a second look finds every layer finite"
            )
        faults = [fault for fault in gather_object([own]) if fault is not None]
        told = "; ".join(faults) if faults else f"every loss is finite, the gradient is not; {self._rows(place)}"
        return f"Step {self.state.global_step + 1}: {told}."

    def _rows(self, place: int) -> str:
        """The rows in batch `place` of the current update of this process, in words."""
        loader = cast(DataLoader, self.callback_handler.train_dataloader)
        accumulation = self.args.gradient_accumulation_steps
        batches = getattr(loader, "batch_sampler", None)
        if batches is None or not hasattr(self.train_dataset, "__len__"):
            return f"batch {self.state.global_step * accumulation + place} of the stream"
        steps_per_epoch = math.ceil(len(loader) / accumulation)
        for sampler in samplers_by_epoch(loader):
            sampler.set_epoch(int(self.state.epoch or 0))
        number = (self.state.global_step % steps_per_epoch) * accumulation + place
        rows = sorted(next(itertools.islice(iter(batches), number, None), []))
        more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
        return f"rows {', '.join(map(str, rows[:_SHOWN_ROWS]))}{more} of the training set"


@torch.no_grad()
def first_nonfinite_layer(model: nn.Module, run: Callable[[], Any]) -> str | None:
    """
    Where a forward pass first meets a number that is not finite.

    Args:
        model: Its parameters, and then the outputs of its modules, are looked at.
        run: The forward pass.

    Returns:
        The parameter, or the module that first returned NaN or, where none did, infinity; `None` where all is finite.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weight `{name}`"
    first: dict[str, str] = {}

    def look(name: str, output: Any) -> None:
        for tensor in _floating_tensors(output):
            if "nan" not in first and torch.isnan(tensor).any():
                first["nan"] = name
            elif "infinite" not in first and torch.isinf(tensor).any():
                first["infinite"] = name

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: look(name, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    names = [first[kind] for kind in ("nan", "infinite") if kind in first]
    return f"the output of `{names[0]}`" if names else None


def _floating_tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _floating_tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _floating_tensors(value)
