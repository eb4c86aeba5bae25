# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The model card of a run: the model, its scores, its training and how to load it, its limits and licence."""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
from huggingface_hub import EvalResult, ModelCard, ModelCardData, hf_hub_download, try_to_load_from_cache
from transformers import PreTrainedModel
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import CONFIG_NAME, logging

from ..loading.position_limits import source_positions
from ..tasks import Task
from .hardware import cpu_capabilities
from .reporting import format_table


logger = logging.get_logger(__name__)

_CARD_FILE = "README.md"
_SPLIT_NOTES = {
    "test": "`predict_*`: test set, `before_*`: test set before training, `eval_*`: validation set.",
    "validation": "`predict_*` and, before training, `before_*`: the validation set, which stands in for a test set "
    "here; `eval_*`: the rows of it by which the training was watched.",
}


def write_model_card(
    output_dir: str | Path,
    model: PreTrainedModel,
    *,
    task: Task,
    languages: Sequence[str],
    data: str,
    values: Mapping[str, Any],
    metrics: Mapping[str, float],
    usage: str,
    name: str | None = None,
    hub_dataset: str | None = None,
    data_license: str | None = None,
    score_notes: str = "",
    base_model: str | None = None,
    base_revision: str | None = None,
    dataset_revision: str | None = None,
    is_adapter: bool = False,
) -> None:
    """
    Writes the card, `README.md`. No token gets into it, and of absolute paths only the end.

    Args:
        output_dir: The directory of the card.
        model: Gives the family, the numbers of parameters, and limits.
        task: Names it, on the card and on the Hub; its pipeline, and the scores that go into the metadata.
        languages: Language codes.
        data: The data set or files.
        values: Arguments of the run that differ from their defaults.
        metrics: All results; those that start with `predict_` and `eval_` are scores.
        usage: Python lines that load the result.
        name: Name of the model; by default the last part of `output_dir`.
        hub_dataset: Name of the data set where it comes from the Hub.
        data_license: Licence of the data, as the Hub names it.
        score_notes: Meaning of the scores, in sentences.
        base_model: The checkpoint that training started from.
        base_revision: Its branch, tag or commit on the Hub.
        dataset_revision: Branch, tag or commit of the data set on the Hub.
        is_adapter: Whether the directory holds a PEFT adapter.
    """
    name = name or Path(output_dir).absolute().name
    # Data without a test set at hand are scored on their validation set.
    split = (
        "validation" if values.get("test_file") and values["test_file"] == values.get("validation_file") else "test"
    )
    scores = {
        key: value
        for key, value in metrics.items()
        if key.startswith(("before_", "predict_", "eval_")) and not key.endswith(_NOT_SCORES)
    }
    base_license = _license_of(base_model, base_revision)
    header = ModelCardData(
        language=list(languages) or None,
        license=data_license or base_license,
        library_name="peft" if is_adapter else "transformers",
        # The Hub makes of it a call of `pipeline`.
        pipeline_tag=task.hub_tag if task.pipeline else None,
        base_model=base_model if _is_on_hub(base_model) else None,
        datasets=[hub_dataset] if hub_dataset else None,
        tags=["hf_attn", model.config.model_type, *(["lora"] if is_adapter else [])],
        model_name=name,
        eval_results=_eval_results(
            scores,
            task,
            hub_dataset or _data_name(data),
            split,
            dataset_revision if hub_dataset else None,
        )
        or None,
    )
    base = None if base_model is None else f"`{shown_path(base_model)}`"
    if _is_on_hub(base_model):
        base = f"{base} at revision {_revision_text(str(base_model), base_revision)}"
    data_shown = shown_path(data)
    if hub_dataset is not None:
        data_shown += f" at revision `{dataset_revision or 'main'}`"
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    kind = f"A LoRA adapter for {base}" if is_adapter else f"A `{model.config.model_type}` model"
    if base is not None and not is_adapter:
        kind += f", fine-tuned from {base},"
    sections = [
        f"---\n{header.to_yaml()}\n---",
        f"# {name}",
        f"{kind} for {task.name} ({' to '.join(languages)}): {num_parameters:,} parameters, {num_trainable:,} of them "
        f"trained. Training data: {data_shown}.",
        "## Scores",
        format_table(["score", "value"], sorted(scores.items())) if scores else "Not scored.",
        f"{_SPLIT_NOTES[split]} {score_notes}".rstrip(),
        "## Use",
        f"```python\n{usage}\n```",
    ]
    if model.config.model_type == "hf_attn":
        note = "Where the package hf_attn is not installed, leave out its import and add `trust_remote_code=True` to "
        note += "what loads the model."
        if (task.pipeline or "").startswith("attn-"):
            note += f' Where it is, `pipeline("{task.pipeline}", model=...)` takes texts.'
        sections.append(note)
    sections += [
        "## Training",
        f"```bash\naccelerate launch {shlex.join(shown_arguments(sys.argv))}\n```",
        format_table(
            ["argument", "value"],
            [(key, f"`{_shown(value)}`") for key, value in sorted(values.items()) if key not in _SECRETS],
        ),
        f"{_speed(metrics)}On {_hardware()}.",
        "## Limits",
        _limits(model),
        "## Licence",
        _license_text(data_license, base_license, has_base=base_model is not None),
        f"transformers {transformers.__version__}, torch {torch.__version__}, accelerate {accelerate.__version__}, "
        f"datasets {datasets.__version__}.",
    ]
    ModelCard("\n\n".join(sections) + "\n", ignore_metadata_errors=True).save(Path(output_dir) / _CARD_FILE)


_NOT_SCORES = ("_runtime", "_per_second", "_samples", "_preparation_time")
_SECRETS = frozenset(["hub_token"])
# A path from the root or the home, at the start of a word: what follows "=", "," or a quote is one.
_ABSOLUTE_PATH = re.compile(r"(?:(?<=^)|(?<=[\s=,'\"\[(]))(?:~?/|[A-Za-z]:[\\/])[^\s,'\"\])]+")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def shown_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line without tokens and without the beginnings of absolute paths."""
    shown, is_secret = [], False
    for argument in arguments:
        flag = argument.lstrip("-").split("=")[0].replace("-", "_")
        if not is_secret and not (argument.startswith("--") and flag in _SECRETS):
            shown.append(_shown(argument))
        # The value of `--hub_token VALUE` comes as the next argument.
        is_secret = argument.startswith("--") and flag in _SECRETS and "=" not in argument
    return shown


def shown_path(path: str) -> str:
    """A path as others may read it: relative where it lies below the working directory, else its last two parts."""
    absolute = Path(path).expanduser()
    if not absolute.is_absolute():
        return path
    if absolute.is_relative_to(Path.cwd()):
        return absolute.relative_to(Path.cwd()).as_posix()
    return "/".join(absolute.parts[1:][-2:])


def _shown(value: Any) -> str:
    return _ABSOLUTE_PATH.sub(lambda match: shown_path(match[0]), str(value))


def _revision_text(name: str, revision: str | None) -> str:
    """A revision of a model on the Hub, with the commit that the cache has of it."""
    text = f"`{revision or 'main'}`"
    file = try_to_load_from_cache(name, CONFIG_NAME, revision=revision)
    commit = Path(file).parent.name if isinstance(file, str) else None
    return text if commit in (None, revision) else f"{text} (commit `{commit}`)"


def _is_on_hub(name: str | None) -> bool:
    return name is not None and _HUB_NAME.fullmatch(name) is not None and not os.path.exists(name)


def _license_of(base_model: str | None, revision: str | None) -> str | None:
    """The licence that a base's own card states; none where it has no card or the Hub does not answer."""
    if base_model is None:
        return None
    card = Path(base_model) / _CARD_FILE
    try:
        if _is_on_hub(base_model):
            card = Path(hf_hub_download(base_model, _CARD_FILE, revision=revision))
        elif not card.is_file():
            return None
        stated = ModelCard.load(card, ignore_metadata_errors=True).data.license
    # A card that somebody else has written badly, or a network that is gone, is no reason to lose the report of a run.
    except Exception as error:
        logger.warning(f"The card of {base_model} cannot be read, its licence stays out of the new one: {error}")
        return None
    return stated if isinstance(stated, str) else None


def _license_text(data_license: str | None, base_license: str | None, has_base: bool) -> str:
    parts = [f"Of the data: {data_license or 'not stated to the recipe, see its source'}."]
    if has_base:
        parts.append(f"Of the base: {base_license or 'see its card'}.")
    return " ".join([*parts, "The model is under whatever these ask for."])


def _data_name(data: str) -> str:
    """The name of a data set of files: that of their folder where they are called after a split."""
    path = Path(data)
    stem = path.name.split(".")[0]
    name = path.parent.name if stem in ("train", "validation", "test") and path.parent.name else stem
    return re.sub(r"[^\w.-]+", "-", name)


def _eval_results(
    scores: Mapping[str, float], task: Task, data_name: str, split: str, revision: str | None
) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=task.hub_tag,
            dataset_type=data_name,
            dataset_name=data_name,
            dataset_split=split,
            dataset_revision=revision,
            metric_type="rouge" if name.startswith("rouge") else name,
            metric_name=name,
            metric_value=round(scores[f"predict_{name}"], 2),
        )
        for name in task.scores
        if f"predict_{name}" in scores
    ]


def _limits(model: PreTrainedModel) -> str:
    sentences = [
        "The model has seen its training data and nothing else but what its base had seen: expect it to fail on other "
        "domains, lengths and languages, to write things that are not in the source, and to repeat the biases of that "
        "data."
    ]
    positions = source_positions(unwrap_peft_model(model))
    if positions is not None:
        sentences.append(f"It has positions for texts of up to {positions} tokens.")
    limit = getattr(getattr(model, "generation_config", None), "max_new_tokens", None)
    if limit is not None:
        sentences.append(f"Without another `max_new_tokens` it stops after {limit} new tokens.")
    return " ".join(sentences)


def _speed(metrics: Mapping[str, float]) -> str:
    speed = metrics.get("train_tokens_per_second")
    if speed is None:
        return ""
    minutes = metrics.get("train_runtime", 0) / 60
    return f"{speed:,.0f} source and target tokens a second, {minutes:.1f} minutes of training. "


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU ({cpu_capabilities().get('cpu_name', 'unknown')}, {torch.get_num_threads()} threads a process)"
