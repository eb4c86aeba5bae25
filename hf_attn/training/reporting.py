# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What a run leaves in its output directory beside the checkpoint: predictions, plots and a model card."""

import json
import logging
import os
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
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_matplotlib_available


logger = logging.getLogger(__name__)

RESULTS_FILE = "all_results.json"
PREDICTIONS_FILE = "generated_predictions.txt"
PLOTS_FOLDER = "plots"


def write_results(output_dir: str | Path, metrics: Mapping[str, float]) -> None:
    """Write `all_results.json`; metrics of an earlier part of the same run that are not measured again stay."""
    file = Path(output_dir) / RESULTS_FILE
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**earlier, **metrics}, indent=4, sort_keys=True) + "\n", encoding="utf-8")


def write_predictions(output_dir: str | Path, predictions: Sequence[str]) -> None:
    """Write one line a row to `generated_predictions.txt`."""
    text = "".join(f"{prediction}\n" for prediction in predictions)
    (Path(output_dir) / PREDICTIONS_FILE).write_text(text, encoding="utf-8")


def log_to_terminal() -> None:
    """Show the package's log in the main process."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    is_main_process = os.environ.get("RANK", "0") == "0"
    logging.getLogger("hf_attn").setLevel(logging.INFO if is_main_process else logging.ERROR)


def write_curves(output_dir: str | Path, log_history: Sequence[Mapping[str, Any]]) -> None:
    """Draw the curves of the training into `plots/`; a line in the log says where matplotlib is not installed."""
    if not is_matplotlib_available():
        logger.warning("No plots: they need matplotlib (`pip install 'hf_attn[plotting]'`).")
        return
    # matplotlib is optional.
    from ..plotting import save_figure, training_curves

    if any("loss" in entry or "eval_loss" in entry for entry in log_history):
        save_figure(training_curves(log_history), Path(output_dir) / PLOTS_FOLDER / "training_curves.png")


@torch.no_grad()
def write_attention(
    output_dir: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, target: str
) -> None:
    """
    Draw the decoder's attention over a source into `plots/attention.png`: the mean over the heads of the last layer.

    Args:
        output_dir: Directory of the run.
        model: Under the `eager` attention implementation, or a family that always returns its attention.
        tokenizer: Splits both texts.
        source: A source text, with its prefix.
        target: The translation to draw.
    """
    if not is_matplotlib_available():
        return
    # matplotlib is optional.
    from ..plotting import attention_map, save_figure

    batch = tokenizer(source, text_target=target, return_tensors="pt").to(model.device)
    model.eval()
    maps = model(**batch, output_attentions=True).cross_attentions
    if not maps:
        logger.warning(f"No attention picture: {type(model).__name__} returned no cross-attention.")
        return
    source_tokens, target_tokens = (
        [str(tokenizer.decode([token])).strip() for token in batch[name][0].tolist()]
        for name in ("input_ids", "labels")
    )
    figure = attention_map(maps[-1][0].float().mean(0), source_tokens, target_tokens)
    save_figure(figure, Path(output_dir) / PLOTS_FOLDER / "attention.png")


def format_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; floats get two decimals, and columns are aligned for reading as text."""
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def add_prefix(prefix: str, scores: Mapping[str, float]) -> dict[str, float]:
    """`{"bleu": ...}` becomes `{"predict_bleu": ...}`."""
    return {f"{prefix}_{name}": value for name, value in scores.items()}


def score_table(metrics: Mapping[str, float], names: Sequence[str], baselines: Mapping[str, str]) -> str:
    """
    Scores of the test set: of the baselines, before training where that was scored, and after.

    Args:
        metrics: All results of a run.
        names: Scores in the order of the columns; those that were not measured are left out.
        baselines: What to call a baseline, and its name in the results: "copy_source" for `predict_copy_source_bleu`.
    """
    names = [name for name in names if f"predict_{name}" in metrics]
    systems = {label: f"predict_{name}" for label, name in baselines.items()}
    systems |= {"before training": "before", "trained": "predict"}
    rows = [
        [system, *(metrics.get(f"{prefix}_{name}", "") for name in names)]
        for system, prefix in systems.items()
        if any(f"{prefix}_{name}" in metrics for name in names)
    ]
    return format_table(["test set", *names], rows)


def usage_lines(output_dir: str, base_model: str | None, example: str) -> str:
    """
    The Python lines that load the result and use it.

    Args:
        output_dir: Where the result lies.
        base_model: The checkpoint under an adapter; `None` for a whole model.
        example: A source text.
    """
    lines = [
        "import hf_attn  # registers the model family",
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{output_dir}")',
    ]
    if base_model is None:
        lines.append(f'model = AutoModelForSeq2SeqLM.from_pretrained("{output_dir}")')
    else:
        lines.insert(1, "from peft import PeftModel")
        lines += [
            f'model = AutoModelForSeq2SeqLM.from_pretrained("{base_model}")',
            f'model = PeftModel.from_pretrained(model, "{output_dir}")',
        ]
    lines += [
        f'batch = tokenizer([{json.dumps(example, ensure_ascii=False)}], return_tensors="pt")',
        "print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True))",
    ]
    return "\n".join(lines)


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
