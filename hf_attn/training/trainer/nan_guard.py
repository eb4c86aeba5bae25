# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A NaN guard: by a loss or a gradient that is NaN or infinite training stops, or the update is left out."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer
from transformers.utils import logging
from typing_extensions import override

from ..arguments import RecipeTrainingArguments
from .checkpoints import last_checkpoint
from .resuming import samplers_by_epoch


logger = logging.get_logger(__name__)

# Rows that a message names.
_SHOWN_ROWS = 20


class NanGuardTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` that never updates the weights by a gradient that is NaN or infinite.

    With `args.nonfinite_loss` "stop" it raises, on all processes, before the weights change, and names the rows of the
    batch, the first layer whose output is not finite, and the last good checkpoint. With "skip" it says the same in
    the log and leaves the update out. Under fp16 the scaler of the gradients, for which infinite ones are no error,
    does both.
    """

    args: RecipeTrainingArguments

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        # Batches and losses of this process in the current update.
        self._update: list[tuple[dict[str, Any], torch.Tensor]] = []
        self._update_step = -1

    @override
    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """`Trainer.training_step`, which keeps batch and loss until the update."""
        if self._update_step != self.state.global_step:
            self._update, self._update_step = [], self.state.global_step
        batch = dict(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._update.append((batch, loss))
        return loss

    @override
    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """
        `Trainer._get_grad_norm`, checked.

        Raises:
            FloatingPointError: It is not finite, and `args.nonfinite_loss` is "stop".
        """
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is None or self.accelerator.scaler is not None:
            return norm
        gathered = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not math.isfinite(gathered):
            description = self._describe()
            if self.args.nonfinite_loss == "stop":
                raise FloatingPointError(
                    f"{description} The weights are as they were before. {self._last_good()} Look at these rows; a "
                    "lower `learning_rate`, more `warmup_steps` or `bf16` false may help; `nonfinite_loss`='skip' "
                    "leaves such updates out."
                )
            logger.warning(f"{description} This update is left out.")
            model.zero_grad()
        return norm

    def _last_good(self) -> str:
        last = last_checkpoint(str(self.args.output_dir))
        return f"The last good checkpoint is {last!r}." if last else "There is no checkpoint yet."

    def _describe(self) -> str:
        """The loss or gradient that is not finite, its rows and first layer, in words; the same on all processes."""
        broken = [index for index, (_, loss) in enumerate(self._update) if not torch.isfinite(loss)]
        index = broken[0] if broken else len(self._update) - 1
        batch, loss = self._update[index]
        model = cast(nn.Module, self.model)
        # On every process, since parts of a layer may lie on others.
        layer = first_nonfinite_layer(model, lambda: self.compute_loss(model, self._prepare_inputs(batch)))
        here = None
        if broken:
            here = f"the loss is {loss.item()} on process {self.args.process_index}, for {self._rows(index)}; " + (
                f"{layer} is the first that is not finite" if layer else "a second look finds every layer finite"
            )
        losses = [description for description in gather_object([here]) if description is not None]
        found = "; ".join(losses) if losses else f"every loss is finite, the gradient is not; {self._rows(index)}"
        return f"Step {self.state.global_step + 1}: {found}."

    def _rows(self, index: int) -> str:
        """The rows in a batch of the current update of this process, in words."""
        loader = cast(DataLoader, self.callback_handler.train_dataloader)
        accumulation = self.args.gradient_accumulation_steps
        batches = getattr(loader, "batch_sampler", None)
        if batches is None or not hasattr(self.train_dataset, "__len__"):
            return f"batch {self.state.global_step * accumulation + index} of the stream"
        steps_per_epoch = math.ceil(len(loader) / accumulation)
        for sampler in samplers_by_epoch(loader):
            sampler.set_epoch(int(self.state.epoch or 0))
        number = (self.state.global_step % steps_per_epoch) * accumulation + index
        rows = sorted(next(itertools.islice(iter(batches), number, None), []))
        more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
        return f"rows {', '.join(map(str, rows[:_SHOWN_ROWS]))}{more} of the training set"


@torch.no_grad()
def first_nonfinite_layer(model: nn.Module, run: Callable[[], Any]) -> str | None:
    """
    The parameter or the layer with which a forward pass first meets a number that is not finite, in words.

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

    with _hooked_outputs(model, look):
        run()
    names = [first[kind] for kind in ("nan", "infinite") if kind in first]
    return f"the output of `{names[0]}`" if names else None


@contextmanager
def _hooked_outputs(model: nn.Module, look: Callable[[str, Any], None]) -> Iterator[None]:
    """A context in which `look` gets the name of each module inside a model, and its output, when it is called."""
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: look(name, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _floating_tensors(output: Any) -> Iterator[torch.Tensor]:
    """The tensors of floating-point numbers in an output of a module."""
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _floating_tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _floating_tensors(value)
