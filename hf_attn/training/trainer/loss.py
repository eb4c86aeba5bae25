# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A loss that is the mean over the target tokens of a whole update, for any model."""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, Seq2SeqTrainer
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import logging
from typing_extensions import override

from ...loading.sharded_weights import gathered_weights
from ...tasks import CLASSIFICATION_HEAD, head_of
from .temporary import temporary_attributes


logger = logging.get_logger(__name__)


class TokenMeanLossTrainer(Seq2SeqTrainer):
    """
    A `Seq2SeqTrainer` whose loss is the sum over target tokens divided by the tokens of the whole update.

    BART, Marian, T5 and others of transformers take `num_items_in_batch` and ignore it, so that their loss and
    gradients grow with accumulation steps and processes; for those the mean of each batch is weighted here.
    """

    model: PreTrainedModel

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        model = self.accelerator.unwrap_model(self.model)
        self._skips_logits = "skip_logits" in inspect.signature(unwrap_peft_model(model).forward).parameters
        has_loss_of_model = self.compute_loss_func is None
        self._weights_the_loss = has_loss_of_model and not divides_by_num_items(model)
        if self._weights_the_loss and self.label_smoother is None:
            logger.info(
                f"{type(self.model).__name__} ignores `num_items_in_batch`: its mean loss is weighted by the target "
                "tokens of each batch, so that accumulation steps and processes do not change it."
            )

    @override
    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """`Trainer.compute_loss`, in which the mean of a model that ignores `num_items_in_batch` becomes its share."""
        labels = inputs["labels"]
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        # The label smoothing of `Trainer` divides by `num_items_in_batch` itself.
        if self._weights_the_loss and self.label_smoother is None and num_items_in_batch is not None:
            loss = loss * (labels.ne(-100).sum() / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    @override
    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """`Trainer.training_step`, without the logits where a model can leave them out."""
        if self._skips_logits:
            inputs["skip_logits"] = True
        return super().training_step(model, inputs, num_items_in_batch)


@torch.no_grad()
def divides_by_num_items(model: PreTrainedModel) -> bool:
    """
    Whether a model's loss is the sum over target tokens divided by the `num_items_in_batch` that it gets.

    Found by running it: its loss on one token, or on one label of a classifier, is compared for `num_items_in_batch`
    1 and 2.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return False
    base = unwrap_peft_model(model)
    config = base.config
    is_classifier = head_of(base) is CLASSIFICATION_HEAD
    # Some classifiers look for the token that ends a text.
    token_id = (config.eos_token_id or 0) if is_classifier else config.decoder_start_token_id
    token = torch.full((1, 1), token_id, device=model.device)
    labels = _label_of(config, token.device) if is_classifier else token
    batch = {"input_ids": token, "attention_mask": torch.ones_like(token), "labels": labels}
    # A classifier sets the problem type of its config by the first labels that it gets, which these are not.
    kept = {"problem_type": config.problem_type} if is_classifier else {}
    was_training = model.training
    with temporary_attributes(config, **kept), gathered_weights(model.parameters()):
        model.eval()
        try:
            losses = [model(**batch, num_items_in_batch=count).loss.item() for count in (1, 2)]
        finally:
            model.train(was_training)
    return abs(losses[0] - 2 * losses[1]) < 1e-3 * abs(losses[0])


def _label_of(config: PretrainedConfig, device: torch.device) -> torch.Tensor:
    """A label of one row for any classifier with this config: class 0, or 1.0 for each output."""
    num_labels = config.num_labels or 1
    if config.problem_type == "single_label_classification" or (config.problem_type is None and num_labels > 1):
        return torch.zeros(1, dtype=torch.int64, device=device)
    return torch.ones(1, num_labels, device=device)
