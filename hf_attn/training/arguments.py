# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The arguments that every recipe takes; each field is a flag and a YAML key of the same name."""

import math
import os
from dataclasses import dataclass, field, fields
from typing import ClassVar

from transformers import Seq2SeqTrainingArguments
from typing_extensions import override

from ..tasks import TRANSLATION, Task
from .hardware import choose_bf16, has_accelerator


@dataclass
class ModelArguments:
    """The model that is trained: a checkpoint, or an architecture with fresh weights."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Directory or Hub name of a checkpoint: hf_attn, BART, Marian, T5 or their kin."},
    )
    model_config: str | None = field(
        default=None,
        metadata={"help": "Start from fresh weights instead: a preset of HfAttnConfig, or a config file in json."},
    )
    config_overrides: str | None = field(
        default=None,
        metadata={
            "help": "Fields of the config to change, for example d_model=192,dropout=0.3; of a checkpoint those that "
            "leave its weights as they are, such as dropout=0.2 or copy_attention=true."
        },
    )
    model_revision: str = field(
        default="main",
        metadata={
            "help": "Branch, tag or commit of model_name_or_path on the Hub; a commit pins it. The tokenizer of the "
            "checkpoint comes from there too."
        },
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={
            "help": "Directory or Hub name of a tokenizer. Without it: the one of the checkpoint, or, for fresh "
            "weights, one trained on the training file."
        },
    )
    vocab_size: int = field(default=8000, metadata={"help": "Size of a tokenizer that is trained, in tokens."})
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "eager, sdpa, ... Without it: eager on CPU, where the backward pass of sdpa is slow."},
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run modelling code that comes with the checkpoint."}
    )

    def __post_init__(self) -> None:
        if (self.model_name_or_path is None) == (self.model_config is None):
            raise ValueError(
                "Give one of `model_name_or_path` (fine-tune a checkpoint) and `model_config` (fresh weights), got "
                f"{self.model_name_or_path!r} and {self.model_config!r}."
            )
        if self.model_revision != "main" and (
            self.model_name_or_path is None or os.path.isdir(self.model_name_or_path)
        ):
            raise ValueError(
                f"`model_revision` is for a `model_name_or_path` on the Hub, got {self.model_revision!r} for "
                f"{self.model_name_or_path or self.model_config!r}."
            )


@dataclass
class AdapterArguments:
    """Low-rank adaptation (Hu et al. 2021) in place of training all weights."""

    lora: bool = field(default=False, metadata={"help": "Train a LoRA adapter; the checkpoint stays as it is."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the update."})
    lora_alpha: int = field(default=32, metadata={"help": "The update is scaled by lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout on the input of the update."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names of the linear layers to adapt, or all-linear; in hf_attn models also shared, the "
            "embedding. Without it: the family's default."
        },
    )
    use_dora: bool = field(default=False, metadata={"help": "Weight-decomposed adaptation (Liu et al. 2024)."})
    load_in_4bit: bool = field(
        default=False, metadata={"help": "Keep the checkpoint in 4 bits (QLoRA); needs bitsandbytes and --lora."}
    )
    merge_adapter: bool = field(
        default=False, metadata={"help": "Also write OUTPUT_DIR/merged: the checkpoint with the adapter folded in."}
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if not self.lora and value != option.default:
                raise ValueError(f"`{option.name}` needs `lora`, got `{option.name}`={value!r} and `lora`=False.")
        for name in ("lora_r", "lora_alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"`lora_dropout` must be in [0, 1), got {self.lora_dropout}.")
        if self.load_in_4bit and self.merge_adapter:
            raise ValueError(
                "`merge_adapter` needs the weights in full precision; merging into 4 bits rounds the update away. "
                "Drop `load_in_4bit`, or load the adapter on the full checkpoint later and merge there."
            )


@dataclass
class DataArguments:
    """The source of the rows, their number, and their lengths."""

    dataset_name: str | None = field(default=None, metadata={"help": "Name of a data set on the Hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of dataset_name; a commit pins it. Without it: main."}
    )
    train_file: str | None = field(
        default=None, metadata={"help": "json, jsonl, csv, parquet or text, gzipped or not."}
    )
    validation_file: str | None = field(default=None, metadata={"help": "As train_file; scored during training."})
    test_file: str | None = field(default=None, metadata={"help": "As train_file; scored at the end."})
    data_license: str | None = field(
        default=None,
        metadata={"help": "Licence of the data, for the model card, as the Hub names it: cc-by-4.0, apache-2.0, ..."},
    )
    streaming: bool = field(
        default=False, metadata={"help": "Read the training rows while training; needs --max_steps."}
    )
    max_source_length: int = field(default=128, metadata={"help": "Longer sources are cut, in tokens."})
    max_target_length: int = field(default=128, metadata={"help": "Longer targets are cut, in tokens."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Keep the first rows of the training set."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Keep the first rows of the validation set."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Keep the first rows of the test set."})

    def __post_init__(self) -> None:
        files = (self.train_file, self.validation_file, self.test_file)
        if self.dataset_name is None and all(file is None for file in files):
            raise ValueError(
                "Give `dataset_name`, or one of `train_file`, `validation_file` and `test_file`; got none of them."
            )
        if self.dataset_name is not None and any(file is not None for file in files):
            raise ValueError(
                "Give either `dataset_name` or files, got `dataset_name`="
                f"{self.dataset_name!r} and {', '.join(file for file in files if file is not None)}."
            )
        if self.dataset_revision is not None and self.dataset_name is None:
            raise ValueError(f"`dataset_revision` needs a `dataset_name`, got {self.dataset_revision!r} without one.")
        for name in ("max_train_samples", "max_eval_samples", "max_predict_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        for name in ("max_source_length", "max_target_length"):
            if getattr(self, name) < 2:
                raise ValueError(f"`{name}` must be at least 2 (a token and the end), got {getattr(self, name)}.")


@dataclass
class TaskArguments:
    """The arguments that most recipes share; each adds what only its task needs."""

    source_prefix: str = field(default="", metadata={"help": "Text put before every source, as T5 wants."})
    score_before: bool = field(default=False, metadata={"help": "Also score the test set before training."})
    num_samples: int = field(default=5, metadata={"help": "Test rows shown at the end."})


@dataclass
class RecipeTrainingArguments(Seq2SeqTrainingArguments):
    """
    `Seq2SeqTrainingArguments` with what the recipes add, and with the settings that are fast as defaults.

    Without `do_train`, `do_eval` and `do_predict` a recipe does all three, as far as there is data; it leaves out
    those that are false, and where one is true those that are not given.

    Attributes:
        task: Names the metrics of the evaluations, and the one that `early_stopping_patience` compares without
            `metric_for_best_model`; another task has a subclass.
    """

    task: ClassVar[Task] = TRANSLATION

    do_train: bool | None = field(default=None, metadata={"help": "Train."})  # type: ignore[assignment]
    do_eval: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Score the validation set at the end."}
    )
    do_predict: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Predict the test set, and score it."}
    )

    bf16: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Train in bfloat16 autocast. Without it: where the hardware computes in bfloat16."},
    )
    optim: str = field(default="adamw_torch_fused", metadata={"help": "Optimizer."})
    predict_with_generate: bool = field(default=True, metadata={"help": "Score generated text."})
    tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Budget of a batch of one process, source plus target tokens with padding, in place of "
            "per_device_train_batch_size rows."
        },
    )
    tokens_per_update: int | None = field(
        default=None,
        metadata={
            "help": "Accumulate batches of tokens_per_batch until those of all processes together may have so many "
            "tokens; in place of gradient_accumulation_steps, so that one process does the updates of several."
        },
    )
    num_beams: int = field(
        default=5,
        metadata={"help": "Beams at the end, and during training unless generation_num_beams says otherwise."},
    )
    length_penalty: float | None = field(
        default=None,
        metadata={
            "help": "Power of the length that beams' scores are divided by; above 1 makes longer outputs. Default: "
            "the checkpoint's, 1 for fresh weights."
        },
    )
    early_stopping: bool | None = field(
        default=None,
        metadata={
            "help": "End a search once `num_beams` outputs have ended, which favours short ones. Default: the "
            "checkpoint's, for fresh weights False: go on while a better output is likely."
        },
    )
    no_repeat_ngram_size: int | None = field(
        default=None,
        metadata={
            "help": "No run of so many tokens comes twice in an output, at the end and during training; 0: any may. "
            "Default: the checkpoint's, 0 for fresh weights."
        },
    )
    average_checkpoints: int = field(
        default=0, metadata={"help": "Average the weights of so many last checkpoints at the end; 0: the last ones."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after so many evaluations without a better score; the best weights are kept."},
    )
    nonfinite_loss: str = field(
        default="stop",
        metadata={
            "help": "When a loss or a gradient is NaN or infinite: stop, naming the rows and the layer, or skip the "
            "update."
        },
    )

    @override
    def __post_init__(self) -> None:
        self._choose_stages()
        if self.bf16 is None:
            self.bf16 = choose_bf16(self.fp16, self.use_cpu)
        # Without it accelerate takes several processes that find no GPU for as many runs of their own.
        if not has_accelerator():
            self.use_cpu = True
        if self.early_stopping_patience is not None:
            self._prepare_early_stopping(self.early_stopping_patience)
        self._check_batches()
        do_eval = self.do_eval
        super().__post_init__()
        # `TrainingArguments` evaluates at the end wherever `eval_strategy` is set, with a training or without.
        self.do_eval = do_eval or (self.do_train and self.do_eval)
        if self.tokens_per_batch is not None and self.tokens_per_update is not None:
            at_once = self.tokens_per_batch * self.world_size
            self.gradient_accumulation_steps = math.ceil(self.tokens_per_update / at_once)
        if self.num_beams < 1:
            raise ValueError(f"`num_beams` must be at least 1, got {self.num_beams}.")
        for name in ("length_penalty", "early_stopping"):
            if getattr(self, name) is not None and self.num_beams == 1:
                raise ValueError(
                    f"`{name}` is about beams and needs `num_beams` above 1, got {getattr(self, name)} with 1."
                )
        if self.no_repeat_ngram_size is not None and self.no_repeat_ngram_size < 0:
            raise ValueError(f"`no_repeat_ngram_size` must be 0 or more, got {self.no_repeat_ngram_size}.")
        if self.nonfinite_loss not in ("stop", "skip"):
            raise ValueError(f"`nonfinite_loss` must be 'stop' or 'skip', got {self.nonfinite_loss!r}.")
        if self.generation_num_beams is None:
            self.generation_num_beams = self.num_beams
        self._check_scoring()
        self._check_averaging()

    def _choose_stages(self) -> None:
        chosen = {name: getattr(self, name) for name in ("do_train", "do_eval", "do_predict")}
        if all(value is False for value in chosen.values()):
            raise ValueError("One of `do_train`, `do_eval` and `do_predict` must be true or left out, all are false.")
        rest = not any(chosen.values())
        for name, value in chosen.items():
            setattr(self, name, rest if value is None else value)
        if not self.do_train:
            # These are about a training, and a file with them may be used to score what it left.
            self.eval_strategy, self.load_best_model_at_end, self.early_stopping_patience = "no", False, None
            self.average_checkpoints = 0

    def _check_batches(self) -> None:
        for name in ("tokens_per_batch", "tokens_per_update"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if self.tokens_per_update is not None and self.tokens_per_batch is None:
            raise ValueError(
                f"`tokens_per_update` counts batches of `tokens_per_batch`, got {self.tokens_per_update} without one."
            )
        # With the defaults of those that say the same in another way.
        for name, others in (
            ("tokens_per_batch", {"per_device_train_batch_size": 8}),
            ("tokens_per_update", {"gradient_accumulation_steps": 1, "deepspeed": None}),
        ):
            for other, default in others.items():
                if getattr(self, name) is not None and getattr(self, other) != default:
                    raise ValueError(
                        f"`{name}` takes the place of `{other}`; choose one, got {getattr(self, name)} and "
                        f"{getattr(self, other)!r}."
                    )

    def _prepare_early_stopping(self, patience: int) -> None:
        if patience < 1:
            raise ValueError(f"`early_stopping_patience` must be at least 1, got {patience}.")
        if self.eval_strategy == "no":
            raise ValueError(
                "`early_stopping_patience` compares evaluations during training, got `eval_strategy`='no'. Set it to "
                "'epoch' or 'steps'."
            )
        if self.average_checkpoints:
            raise ValueError(
                "`early_stopping_patience` keeps the best checkpoint, `average_checkpoints` averages the last ones; "
                f"choose one, got {patience} and {self.average_checkpoints}."
            )
        if self.metric_for_best_model is None:
            self.metric_for_best_model = self.task.main_score
        self.load_best_model_at_end = True

    def _check_scoring(self) -> None:
        """Refuses what would be noticed after the training only, when there is nothing to score."""
        # A subclass whose default is false does not score text.
        if type(self).predict_with_generate and not self.predict_with_generate:
            raise ValueError("`predict_with_generate` must be true, since generated text is scored, got False.")
        for name, needed in (
            ("prediction_loss_only", False),
            ("eval_do_concat_batches", True),
            ("batch_eval_metrics", False),
        ):
            if getattr(self, name) != needed:
                raise ValueError(
                    f"`{name}` must be {str(needed).lower()}, since predictions are scored, got {getattr(self, name)}."
                )
        if self.generation_config is not None:
            raise ValueError(
                "`generation_config` must be left out: a recipe sets it by its own flags and by the training data, on "
                f"top of what the checkpoint has, got {str(self.generation_config)!r}. Use `num_beams`, "
                "`length_penalty`, `early_stopping`, `no_repeat_ngram_size` and `generation_max_length`."
            )
        if self.generation_max_length is not None and self.generation_max_length < 2:
            raise ValueError(
                "`generation_max_length` must be at least 2 (the token that starts and one more), got "
                f"{self.generation_max_length}."
            )
        if self.metric_for_best_model is not None and not self.is_metric(self.metric_for_best_model):
            raise ValueError(
                f"`metric_for_best_model` must be one of {', '.join(self.task.metrics)} and loss, got "
                f"{self.metric_for_best_model!r}."
            )

    def is_metric(self, name: str) -> bool:
        """Whether evaluations during training have a metric of this name, with `eval_` or without."""
        return name.removeprefix("eval_") in ("loss", *self.task.metrics)

    def _check_averaging(self) -> None:
        if self.average_checkpoints < 0:
            raise ValueError(f"`average_checkpoints` must be 0 or more, got {self.average_checkpoints}.")
        if not self.average_checkpoints:
            return
        if self.load_best_model_at_end:
            raise ValueError(
                "`average_checkpoints` averages the last checkpoints, `load_best_model_at_end` takes one; choose one."
            )
        # Rotation keeps the best checkpoint beside the last ones, inside the limit.
        needed = self.average_checkpoints + (self.metric_for_best_model is not None)
        if self.save_total_limit is not None and self.save_total_limit < needed:
            raise ValueError(
                f"`save_total_limit` must be at least {needed} to average the last {self.average_checkpoints} "
                f"checkpoints, got {self.save_total_limit}."
            )
        if self.save_strategy == "no":
            raise ValueError(
                f"`average_checkpoints`={self.average_checkpoints} needs checkpoints, got `save_strategy`='no'."
            )
