# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The beginning of every recipe, from its command line, and its end, with a report beside the checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from transformers import Trainer, TrainerCallback, set_seed
from transformers.utils import logging
from typing_extensions import override

from ..adapters import finish_adapter
from ..tasks import Task
from .arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments
from .loading import check_base
from .model_card import shown_path, write_model_card
from .parsing import parse_arguments
from .reporting import log_to_terminal, usage_lines, write_curves, write_results
from .run_directory import record_run, resume_or_refuse
from .trainer.checkpoints import check_whole
from .trainer.trainer import RecipeTrainer


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Run:
    """
    The run that a command line describes.

    Attributes:
        model_args, adapter_args, data_args, task_args, training_args: The filled dataclasses of the recipe.
        values: The arguments that differ from their defaults.
        checkpoint: The checkpoint of an earlier part of the same run to resume from; `None` where there is none.
    """

    model_args: ModelArguments
    adapter_args: AdapterArguments
    data_args: DataArguments
    task_args: Any
    training_args: RecipeTrainingArguments
    values: dict[str, Any]
    checkpoint: str | None

    @property
    def base_model(self) -> str | None:
        """The checkpoint under an adapter; `None` where a whole model is trained."""
        return self.model_args.model_name_or_path if self.adapter_args.lora else None

    @property
    def data(self) -> str | None:
        """The data set or the file that the rows come from, for the model card."""
        arguments = self.data_args
        names = (arguments.dataset_name, arguments.train_file, arguments.validation_file, arguments.test_file)
        return next((name for name in names if name is not None), None)

    def record(self, trainer: Trainer) -> None:
        """
        Writes the arguments into the output directory, which is this run's from then on: when the trainer begins to
        train, all being checked that can be before, or at once where there is nothing to train on.
        """
        if trainer.train_dataset is None:
            self._record()
        else:
            trainer.add_callback(_RecordingCallback(self._record))

    def _record(self) -> None:
        if self.training_args.process_index == 0:
            record_run(str(self.training_args.output_dir), self.values)


class _RecordingCallback(TrainerCallback):
    """Calls a function when the training begins."""

    def __init__(self, record: Callable[[], None]):
        self._record = record

    @override
    def on_train_begin(self, *arguments: Any, **keywords: Any) -> None:
        """`TrainerCallback.on_train_begin`: calls the function."""
        self._record()


def start_run(
    dataclass_types: Sequence[type],
    arguments: Sequence[str] | None,
    default_config: str | Path,
    description: str,
) -> Run:
    """
    Reads the command line, checks the output directory without writing there, and seeds.

    Args:
        dataclass_types: Those of model, adapter, data, task and training arguments, or subclasses, in this order.
        arguments: The command line without the program; that of the process when `None`.
        default_config: YAML file of the default run.
        description: First line of `--help`.

    Raises:
        ValueError: As `parse_arguments`, `check_base` and `resume_or_refuse` do; or `lora` or `push_to_hub` goes
            without a training; or arguments do not go together; or `resume_from_checkpoint` is not whole.
        FileNotFoundError: The config does not exist.
    """
    log_to_terminal()
    (model_args, adapter_args, data_args, task_args, training_args), values = parse_arguments(
        dataclass_types, arguments, default_config, description
    )
    check_base(model_args, adapter_args)
    _check_training(adapter_args, data_args, training_args)
    _check_precision(adapter_args, task_args, training_args)
    checkpoint = resume_or_refuse(training_args.output_dir, values)
    if training_args.resume_from_checkpoint is not None:
        checkpoint = training_args.resume_from_checkpoint
        check_whole(checkpoint)
    if checkpoint is not None and training_args.save_only_model:
        logger.warning(
            f"{checkpoint} was saved with `save_only_model`: optimizer and learning rate start anew, and the result "
            "is not that of an unbroken run."
        )
    set_seed(training_args.seed)
    return Run(model_args, adapter_args, data_args, task_args, training_args, values, checkpoint)


def _check_training(
    adapter_args: AdapterArguments, data_args: DataArguments, training_args: RecipeTrainingArguments
) -> None:
    train = data_args.train_file or data_args.dataset_name
    if training_args.do_train and train:
        if data_args.streaming and training_args.max_steps <= 0:
            raise ValueError(
                "`streaming` needs `max_steps`, since the rows are not counted, got `max_steps`="
                f"{training_args.max_steps}."
            )
        if data_args.streaming and training_args.tokens_per_batch is not None:
            raise ValueError(
                "`tokens_per_batch` sorts rows by length, which a stream does not allow, got "
                f"{training_args.tokens_per_batch} with `streaming`. Drop one of them; `per_device_train_batch_size` "
                "counts rows."
            )
        return
    instead = f"got `do_train`={training_args.do_train} and training data {train!r}"
    if adapter_args.lora:
        raise ValueError(
            f"`lora` trains an adapter, {instead}. One that is trained already is evaluated by `hf-attn generate BASE "
            "--adapter DIR` or a pipeline, or by its folder `merged` as `model_name_or_path`, without `lora`."
        )
    if training_args.push_to_hub:
        raise ValueError(
            f"`push_to_hub` pushes what a training leaves, {instead}. Upload other results by `hf upload`."
        )


def _check_precision(adapter_args: AdapterArguments, task_args: Any, training_args: RecipeTrainingArguments) -> None:
    """Refuses an evaluation in half precision, which rounds the weights, where they are needed afterwards."""
    for name in ("bf16_full_eval", "fp16_full_eval"):
        for other, value in (("score_before", task_args.score_before), ("merge_adapter", adapter_args.merge_adapter)):
            if getattr(training_args, name) and value:
                raise ValueError(
                    f"`{name}` rounds the weights, which `{other}` needs whole afterwards, got both. Drop one of them."
                )


def finish_run(
    run: Run,
    trainer: RecipeTrainer,
    metrics: dict[str, float],
    *,
    task: Task,
    languages: Sequence[str],
    score_notes: str,
    example: str,
    usage: Callable[[str, str | None, str], str] = usage_lines,
) -> str:
    """
    Writes the files of every run beside its checkpoint: results, curves, model card, and those of an adapter; then
    pushes all where `push_to_hub` says so. A run that trains nothing leaves results.

    For the main process, and last: with `merge_adapter` the model is taken apart.

    Args:
        run: The run.
        trainer: Gives the model, the tokenizer and the history of the training.
        metrics: All results.
        task: Names the result on its card, with its pipeline and its scores.
        languages: Language codes.
        score_notes: Meaning of the scores, in sentences.
        example: A source text for the lines that show the use.
        usage: Makes these lines from the output directory, the base model under an adapter, and the example.

    Returns:
        The message for the user: the directory of the result, and the lines that load it.

    Raises:
        RuntimeError: The push failed; all that is written stays, and the message says how to push it again.
    """
    output_dir, base_model, hub_name = str(run.training_args.output_dir), run.base_model, trainer.repository
    trainer.log_metrics("all", metrics)
    write_results(output_dir, metrics)
    if trainer.train_dataset is None:
        scored = run.model_args.model_name_or_path
        message = f"\nThe results are in {output_dir}."
        return message if scored is None else f"{message} To load what made them:\n\n{usage(scored, None, example)}"
    lines = usage(hub_name or output_dir, base_model, example)
    write_curves(output_dir, trainer.state.log_history)
    write_model_card(
        output_dir,
        trainer.model,
        task=task,
        languages=languages,
        data=str(run.data),
        values=run.values,
        metrics=metrics,
        usage=usage(hub_name or shown_path(output_dir), base_model and shown_path(base_model), example),
        name=hub_name and hub_name.split("/")[-1],
        hub_dataset=run.data_args.dataset_name,
        data_license=run.data_args.data_license,
        score_notes=score_notes,
        base_model=run.model_args.model_name_or_path,
        base_revision=run.model_args.model_revision,
        dataset_revision=run.data_args.dataset_revision,
        is_adapter=run.adapter_args.lora,
    )
    if run.adapter_args.lora:
        model = cast(PeftModel, trainer.model)
        finish_adapter(model, trainer.processing_class, output_dir, merge=run.adapter_args.merge_adapter)
    where = output_dir
    if run.training_args.push_to_hub:
        where += f", and on the Hub at {trainer.push_run()}"
    return f"\nThe result is in {where}. To load it:\n\n{lines}"
