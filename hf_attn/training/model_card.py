# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The model card of a run: what the model is, its scores, how it was trained and how it is loaded."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from .reporting import format_table


def write_model_card(
    output_dir: str | Path,
    model: PreTrainedModel,
    *,
    task: str,
    languages: Sequence[str],
    data: str,
    values: Mapping[str, Any],
    metrics: Mapping[str, float],
    usage: str,
    score_names: Sequence[str] = (),
    score_notes: str = "",
    base_model: str | None = None,
    is_adapter: bool = False,
) -> None:
    """
    Fill in `README.md`: what the model is, its scores, how it was trained and how it is loaded.

    Args:
        output_dir: Where the card goes; its last part names the model.
        model: Gives the family and the numbers of parameters.
        task: A pipeline tag of the Hub, such as `translation`.
        languages: Language codes.
        data: The data set or files.
        values: Arguments of the run that differ from their defaults.
        metrics: All results; those that start with `predict_` and `eval_` are scores.
        usage: Python lines that load the result.
        score_names: Scores of the test set, without `predict_`, that go into the metadata.
        score_notes: What the scores are.
        base_model: The checkpoint that training started from.
        is_adapter: Whether the directory holds a PEFT adapter.
    """
    model_name = Path(output_dir).name
    scores = {
        key: value
        for key, value in metrics.items()
        if key.startswith(("before_", "predict_", "eval_")) and not key.endswith(_NOT_SCORES)
    }
    results = [
        EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            metric_type=name,
            metric_value=round(scores[f"predict_{name}"], 2),
        )
        for name in score_names
        if f"predict_{name}" in scores
    ]
    header = ModelCardData(
        language=list(languages) or None,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag=task,
        base_model=base_model,
        tags=["hf_attn", model.config.model_type, *(["lora"] if is_adapter else [])],
        model_name=model_name,
        eval_results=results or None,
    )
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    kind = f"A LoRA adapter for `{base_model}`" if is_adapter else f"A `{model.config.model_type}` model"
    speed = metrics.get("train_tokens_per_second")
    sections = [
        f"---\n{header.to_yaml()}\n---",
        f"# {model_name}",
        f"{kind} for {task} ({' to '.join(languages)}): {num_parameters:,} parameters, {num_trainable:,} of them "
        f"trained. Training data: {data}.",
        "## Scores",
        format_table(["score", "value"], sorted(scores.items())) if scores else "Not scored.",
        "`predict_*`: test set, `before_*`: test set before training, `eval_*`: validation set. "
        f"{score_notes}".rstrip(),
        "## Use",
        f"```python\n{usage}\n```",
        "## Training",
        f"```bash\naccelerate launch {shlex.join(sys.argv)}\n```",
        format_table(["argument", "value"], [(key, f"`{value}`") for key, value in sorted(values.items())]),
    ]
    if speed is not None:
        sections.append(
            f"{speed:,.0f} source and target tokens a second, {metrics.get('train_runtime', 0) / 60:.1f} minutes, on "
            f"{_hardware()}."
        )
    sections += [
        "## Limits",
        "The model has seen the sentences of its training data and nothing else: expect it to fail on other domains, "
        "lengths and languages, and to repeat the biases of that data.",
        f"transformers {transformers.__version__}, torch {torch.__version__}, accelerate {accelerate.__version__}, "
        f"datasets {datasets.__version__}.",
    ]
    ModelCard("\n\n".join(sections) + "\n", ignore_metadata_errors=True).save(Path(output_dir) / "README.md")


_NOT_SCORES = ("_runtime", "_per_second", "_samples", "_preparation_time")


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return (
        f"CPU ({torch.cpu.get_capabilities().get('cpu_name', 'unknown')}, {torch.get_num_threads()} threads a process)"
    )
