# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The files of a run beside its checkpoint, predictions, results and plots, and the texts of its report."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_matplotlib_available

from ..tasks import WRITING_HEAD, Head
from .trainer.checkpoints import read_json, write_text_whole


logger = logging.getLogger(__name__)

RESULTS_FILE = "all_results.json"
PREDICTIONS_FILE = "generated_predictions.txt"
PLOTS_FOLDER = "plots"

# Characters to which cells of a table are padded at most.
_WIDEST_COLUMN = 60


def write_results(output_dir: str | Path, metrics: Mapping[str, float]) -> None:
    """Writes `all_results.json`; metrics of an earlier part of the same run that are not measured again stay."""
    file = Path(output_dir) / RESULTS_FILE
    try:
        earlier = read_json(file) if file.is_file() else {}
    # At the end of a run its results count for more.
    except ValueError as error:
        logger.warning(f"The earlier results are lost: {error}")
        earlier = {}
    write_text_whole(file, json.dumps({**earlier, **metrics}, indent=4, sort_keys=True) + "\n")


def write_predictions(output_dir: str | Path, predictions: Sequence[str]) -> None:
    """Writes one line a row to `generated_predictions.txt`."""
    text = "".join(f"{prediction}\n" for prediction in predictions)
    (Path(output_dir) / PREDICTIONS_FILE).write_text(text, encoding="utf-8")


def log_to_terminal() -> None:
    """Shows the package's log in the main process."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    is_main_process = os.environ.get("RANK", "0") == "0"
    logging.getLogger("hf_attn").setLevel(logging.INFO if is_main_process else logging.ERROR)


def write_curves(output_dir: str | Path, log_history: Sequence[Mapping[str, Any]]) -> None:
    """Draws the curves of the training into `plots/`; a line in the log says where matplotlib is not installed."""
    if not is_matplotlib_available():
        logger.warning("No plots: they need matplotlib (`pip install 'hf_attn[plotting]'`).")
        return
    # matplotlib is optional.
    from ..plotting import save_figure, training_curves

    if any("loss" in entry or "eval_loss" in entry for entry in log_history):
        save_figure(training_curves(log_history), Path(output_dir) / PLOTS_FOLDER / "training_curves.png")


@torch.no_grad()
def write_attention(
    output_dir: str | Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    target: str,
    is_drawn: bool = True,
) -> None:
    """
    Draws the cross-attention of two texts into `plots/attention.png`: the mean over the heads of the last layer.

    Args:
        output_dir: Directory of the run.
        model: Under the `eager` attention implementation, or a family that always returns its attention.
        tokenizer: Splits both texts.
        source: A source text, with its prefix.
        target: The translation to draw.
        is_drawn: Whether this process draws; all compute, since the weights may be sharded over them.
    """
    if not is_matplotlib_available():
        return
    # matplotlib is optional.
    from ..plotting import attention_map, save_figure, token_labels

    batch = tokenizer(source, text_target=target, return_tensors="pt").to(model.device)
    model.eval()
    maps = model(**batch, output_attentions=True).cross_attentions
    if not is_drawn:
        return
    if not maps:
        logger.warning(f"No attention picture: {type(model).__name__} returned no cross-attention.")
        return
    source_tokens, target_tokens = (
        token_labels(tokenizer, batch[name][0].tolist()) for name in ("input_ids", "labels")
    )
    figure = attention_map(maps[-1][0].float().mean(0), source_tokens, target_tokens)
    save_figure(figure, Path(output_dir) / PLOTS_FOLDER / "attention.png")


def format_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; floats get two decimals, and columns are aligned for reading as text where cells are short."""
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [min(max(len(row[column]) for row in cells), _WIDEST_COLUMN) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def add_prefix(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics with a prefix to their names: `{"bleu": ...}` becomes `{"predict_bleu": ...}`."""
    return {f"{prefix}_{name}": value for name, value in metrics.items()}


def score_table(
    metrics: Mapping[str, float], names: Sequence[str], baselines: Mapping[str, str], main_score: str = ""
) -> str:
    """
    A table of the metrics of the test set: of the baselines, before training where that was scored, and after.

    Args:
        metrics: All results of a run.
        names: Metrics in the order of the columns; those that were not measured are left out.
        baselines: Label of a baseline, and its name in the results: "copy_source" for `predict_copy_source_bleu`.
        main_score: The metric that has an interval, and p-values of the differences from it, in columns of their own.
    """
    names = [name for name in names if f"predict_{name}" in metrics]
    systems = {label: f"predict_{name}" for label, name in baselines.items()}
    systems |= {"before training": "before", "trained": "predict"}
    certainty = [f"95% of {main_score}", "p"] if f"predict_{main_score}_lower" in metrics else []
    rows = [
        [
            system,
            *(metrics.get(f"{prefix}_{name}", "") for name in names),
            *(_certainty(metrics, prefix, main_score) if certainty else []),
        ]
        for system, prefix in systems.items()
        if any(f"{prefix}_{name}" in metrics for name in names)
    ]
    return format_table(["test set", *names, *certainty], rows)


def _certainty(metrics: Mapping[str, float], prefix: str, name: str) -> list[str]:
    """The interval of a metric, and the p-value of its distance from the trained model's; each where there is one."""
    bounds = [metrics[key] for key in (f"{prefix}_{name}_lower", f"{prefix}_{name}_upper") if key in metrics]
    p_value = metrics.get(f"{prefix}_p_value")
    return [" to ".join(f"{bound:.2f}" for bound in bounds), "" if p_value is None else f"{p_value:.3f}"]


def usage_lines(output_dir: str, base_model: str | None, example: str) -> str:
    """
    The Python lines that load the result and use it.

    Args:
        output_dir: The directory of the result.
        base_model: The checkpoint under an adapter; `None` for a whole model.
        example: A source text.
    """
    lines = [
        *loading_lines(output_dir, base_model),
        f'batch = tokenizer([{json.dumps(example, ensure_ascii=False)}], return_tensors="pt")',
        "print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True))",
    ]
    return "\n".join(lines)


def loading_lines(
    output_dir: str, base_model: str | None, head: Head = WRITING_HEAD, base_options: str = ""
) -> list[str]:
    """
    The Python lines that load the result as `tokenizer` and `model`.

    Args:
        output_dir: The directory of the result.
        base_model: The checkpoint under an adapter; `None` for a whole model.
        head: The model's head. A generative model gets the generation config beside an adapter, which PEFT leaves
            alone.
        base_options: Further arguments for the loading of a base, ", name=value": those that neither its config says
            nor that of an adapter.
    """
    auto_class = head.auto_class
    start = [
        "import hf_attn  # registers the model family",
        f"from transformers import {auto_class}, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{output_dir}")',
    ]
    if base_model is None:
        return [*start, f'model = {auto_class}.from_pretrained("{output_dir}")']
    start.insert(1, "from peft import PeftModel")
    model = [f'model = {auto_class}.from_pretrained("{base_model}"{base_options})']
    if head is WRITING_HEAD:
        start[2] += ", GenerationConfig"
        model.append(f'model.generation_config = GenerationConfig.from_pretrained("{output_dir}")')
    return [*start, *model, f'model = PeftModel.from_pretrained(model, "{output_dir}")']
