# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Pre-train a model on text without labels, and on sentence pairs, to restore what noise has hidden.

    accelerate launch recipes/pretrain.py --config recipes/configs/pretrain_hybrid.yaml
    accelerate launch recipes/pretrain.py --config FILE.yaml --objective span_corruption --output_dir outputs/other
    accelerate launch recipes/pretrain.py

The last line runs recipes/configs/quickstart_pretrain.yaml. `corpora` mixes several files; `train_file` and its like
name those of a single corpus. Every field of the dataclasses in `ARGUMENTS`, those of `Seq2SeqTrainingArguments`
included, is a flag and a key of the YAML file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

import hf_attn  # noqa: F401 -- registers the model family
from hf_attn.data import source_target_lengths, translation_preprocessor
from hf_attn.data.pretraining import (
    OBJECTIVES,
    TEXT,
    EpochNoise,
    Noise,
    as_blocks,
    block_preprocessor,
    build_noise,
    documents,
    draw_once,
    largest_block,
    mix,
    sentinel_tokens,
)
from hf_attn.tasks import PRETRAINING, Task
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainer,
    RecipeTrainingArguments,
    Run,
    add_prefix,
    finish_run,
    format_table,
    load_model,
    load_tokenizer,
    prepare_generation,
    read_splits,
    start_run,
    temporary_attributes,
    texts_of,
    tokenize_splits,
    usage_lines,
)
from hf_attn.training.pretraining import (
    SPLITS,
    Corpus,
    HeldOutRows,
    count_tokens,
    parse_corpora,
    read_corpora,
    token_losses,
)


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "quickstart_pretrain.yaml"
SAVE_DTYPES = ("float32", "bfloat16", "float16")
# Held-out text is hidden alike in every run.
EVALUATION_SEED = 0


@dataclass
class PretrainingArguments:
    """What only pre-training needs."""

    objective: str = field(default="text_infilling", metadata={"help": f"One of {', '.join(OBJECTIVES)}."})
    mask_ratio: float | None = field(
        default=None, metadata={"help": "Share of hidden tokens. Without it: 0.3 in infilling, 0.15 in corruption."}
    )
    mean_span_length: float = field(default=3.0, metadata={"help": "Of the hidden spans, in tokens."})
    permute_sentences: bool = field(default=False, metadata={"help": "Infilling: also shuffle the sentences."})
    min_block_length: int = field(
        default=128, metadata={"help": "Shorter documents share a block with those after them, in tokens."}
    )
    temperature: float = field(
        default=1.0, metadata={"help": "Above 1, small corpora without weights get more than their proportion."}
    )
    save_dtype: str = field(
        default="float32", metadata={"help": "Precision of the weights that are scored and saved at the end."}
    )
    language: str = field(default="en", metadata={"help": "Language of the text, for the model card."})
    score_before: bool = field(default=False, metadata={"help": "Also score the held-out text before training."})
    num_samples: int = field(default=1, metadata={"help": "Held-out rows of each corpus shown at the end."})

    def __post_init__(self):
        if self.save_dtype not in SAVE_DTYPES:
            raise ValueError(f"`save_dtype` must be one of {', '.join(SAVE_DTYPES)}, got {self.save_dtype!r}.")


_IN_CORPORA = (
    "dataset_name", "train_file", "validation_file", "test_file", "text_columns", "source_lang", "target_lang",
)  # fmt: skip


@dataclass
class PretrainingDataArguments(DataArguments):
    """Several corpora in place of one, and longer texts."""

    corpora: str | None = field(
        default=None,
        metadata={
            "help": "Names with an object each: files train, validation and test, columns, weight; or, for sentence "
            "pairs, source_lang, target_lang and prefix. On the command line as json."
        },
    )
    text_columns: list[str] | None = field(
        default=None, metadata={"help": "Columns of train_file and its like that hold text. Without it: text."}
    )
    source_lang: str | None = field(default=None, metadata={"help": "Set if train_file holds sentence pairs."})
    target_lang: str | None = field(default=None, metadata={"help": "Set if train_file holds sentence pairs."})
    max_source_length: int = field(default=512, metadata={"help": "Of a block after noise, in tokens."})
    max_target_length: int = field(default=512, metadata={"help": "Of what is to be restored, in tokens."})

    def __post_init__(self):
        if self.streaming:
            raise ValueError("`streaming` cannot make blocks of documents or mix corpora: drop it.")
        if self.corpora is not None:
            for name in _IN_CORPORA:
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"`corpora` says itself where text comes from, got `{name}` {getattr(self, name)!r} too: drop "
                        "one of them."
                    )
            corpora = self.mixture().values()
            # For the model card.
            self.train_file = ", ".join(corpus.train for corpus in corpora if corpus.train) or None
            self.validation_file = ", ".join(corpus.validation for corpus in corpora if corpus.validation) or None
            self.test_file = ", ".join(corpus.test for corpus in corpora if corpus.test) or None
        super().__post_init__()
        self.mixture()

    def mixture(self) -> dict[str, Corpus]:
        """The corpora by name; that of `train_file` and its like, or of `dataset_name`, is called `text`."""
        if self.corpora is not None:
            return parse_corpora(self.corpora)
        columns = {} if self.text_columns is None else {"columns": self.text_columns}
        return {"text": Corpus(source_lang=self.source_lang, target_lang=self.target_lang, **columns)}


@dataclass
class PretrainingTrainingArguments(RecipeTrainingArguments):
    """Held-out text is scored by its likelihood; nothing is generated."""

    task: ClassVar[Task] = PRETRAINING

    predict_with_generate: bool = field(default=False, metadata={"help": "Has to stay false."})
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Has to stay false."})

    def __post_init__(self):
        super().__post_init__()
        for name in ("predict_with_generate", "remove_unused_columns"):
            if getattr(self, name):
                raise ValueError(f"`{name}` must be false in pre-training, which needs whole rows and likelihoods.")

    def is_metric(self, name: str) -> bool:
        """As the parent's; each corpus has its own, such as `eval_novels_masked_loss`."""
        own = name.startswith("eval_") and name.endswith(tuple(f"_{metric}" for metric in self.task.metrics))
        return own or super().is_metric(name)


ARGUMENTS = (
    ModelArguments,
    AdapterArguments,
    PretrainingDataArguments,
    PretrainingArguments,
    PretrainingTrainingArguments,
)
SCORE_NOTES = (
    "Scores count the hidden tokens of held-out text, in translation all target tokens: `masked_loss` is their mean "
    "negative log-likelihood in nats, the tokens before each known, `perplexity` its exponential, `accuracy` the "
    "share that the model holds for the likeliest; `unigram_perplexity` is that of the frequencies of tokens alone."
)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Parse, load, preprocess, train, evaluate, write; returns every metric."""
    run = start_run(ARGUMENTS, arguments, DEFAULT_CONFIG, "Pre-train a model on text and sentence pairs.")
    task, data_args, training_args = run.task_args, run.data_args, run.training_args
    corpora = data_args.mixture()

    # Load.
    if data_args.corpora is None:
        splits = {"text": read_splits(data_args, training_args)}
    else:
        splits = read_corpora(corpora, data_args, training_args)
    for name, corpus in corpora.items():
        if not corpus.is_parallel:
            splits[name] = {
                split: documents(rows, f"{split} of {name}", corpus.columns) for split, rows in splits[name].items()
            }
    tokenizer = load_tokenizer(run.model_args, training_texts(splits, corpora))
    is_new_tokenizer = run.model_args.tokenizer_name is None and run.model_args.model_name_or_path is None
    if is_new_tokenizer and task.objective == "span_corruption":
        tokenizer.add_special_tokens({"extra_special_tokens": sentinel_tokens()})
    noise = build_noise(tokenizer, task.objective, task.mask_ratio, task.mean_span_length, task.permute_sentences)
    model = load_model(run.model_args, run.adapter_args, training_args, tokenizer)

    # Preprocess.
    rows = {name: task_rows(run, corpus, splits[name], tokenizer, noise) for name, corpus in corpora.items()}
    training, validation, test = (
        {name: rows[name][split] for name in corpora if split in rows[name]} for split in SPLITS
    )
    held_out = {prefix: HeldOutRows(scored) for prefix, scored in (("eval", validation), ("predict", test)) if scored}
    tokenized = {prefix: scored.dataset for prefix, scored in held_out.items()}
    epoch_noise = EpochNoise(noise, training_args.seed)
    counts = None
    if training:
        mixture, repeats = mix(training, {name: corpora[name].weight for name in training}, task.temperature)
        tokenized["train"] = mixture.with_transform(epoch_noise)
        counts = count_tokens(mixture, len(tokenizer))
        if training_args.process_index == 0:
            print(f"\n{mixture_table(training, repeats)}\n")
    prepare_generation(run, model, tokenizer, tokenized)

    # Train.
    validation_rows = held_out.get("eval")
    trainer = RecipeTrainer(
        model=model,
        args=training_args,
        train_dataset=tokenized.get("train"),
        eval_dataset=validation_rows.dataset if validation_rows else None,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model if training_args.label_smoothing_factor else None),
        processing_class=tokenizer,
        compute_metrics=validation_rows.metrics if validation_rows else None,
        preprocess_logits_for_metrics=token_losses,
        callbacks=[epoch_noise],
    )
    run.record(trainer)
    metrics: dict[str, float] = {}
    if task.score_before:
        for prefix, scored in held_out.items():
            metrics |= score(trainer, scored, f"before_{prefix}")
    if training:
        metrics |= trainer.train_and_save(run.checkpoint)
        if task.save_dtype != "float32":
            model.to(getattr(torch, task.save_dtype))
            trainer.save_model()

    # Evaluate.
    for prefix, scored in held_out.items():
        metrics |= score(trainer, scored, prefix)
        if counts is not None:
            metrics |= add_prefix(prefix, scored.unigram_metrics(counts))

    # Write.
    # Samples on every process: each may hold a part of the weights.
    shown = validation_rows.shortest(task.num_samples) if validation_rows and task.num_samples else []
    samples = samples_table(trainer, shown) if shown else ""
    if trainer.is_world_process_zero():
        for prefix, scored in held_out.items():
            print(f"\n{held_out_table(metrics, prefix, scored.names)}\n")
        print(samples)
        mask = tokenizer.mask_token if task.objective == "text_infilling" else sentinel_tokens()[0]
        told = finish_run(
            run,
            trainer,
            metrics,
            task=PRETRAINING,
            languages=languages_of(task.language, corpora),
            score_notes=SCORE_NOTES,
            example=f"Once upon a time there {mask} a king.",
            usage=mask_usage_lines,
        )
        print(told)
    trainer.accelerator.end_training()
    return metrics


def training_texts(splits: Mapping[str, Mapping[str, Dataset]], corpora: Mapping[str, Corpus]) -> Iterator[str]:
    """All texts of the training splits, for a tokenizer."""
    training = {name: rows["train"] for name, rows in splits.items() if "train" in rows}
    if not training:
        raise ValueError("`corpora` or `train_file` must give a training split to train a tokenizer on, got none.")
    for name, rows in training.items():
        if corpora[name].is_parallel:
            yield from texts_of(rows, corpora[name].source_lang, "source")
            yield from texts_of(rows, corpora[name].target_lang, "target")
        else:
            yield from rows[TEXT]


def task_rows(
    run: Run, corpus: Corpus, splits: Mapping[str, Dataset], tokenizer: PreTrainedTokenizerBase, noise: Noise
) -> dict[str, Dataset]:
    """The splits of a corpus as tasks: translations, or blocks of text with one draw of the noise."""
    limits = run.data_args.max_source_length, run.data_args.max_target_length
    if corpus.is_parallel:
        languages = corpus.source_lang, corpus.target_lang
        preprocess = translation_preprocessor(tokenizer, *languages, *limits, corpus.source_prefix)
    else:
        largest = largest_block(noise, *limits)
        preprocess = block_preprocessor(tokenizer, largest, min(run.task_args.min_block_length, largest))
    tokenized = tokenize_splits(run, splits, preprocess)
    with run.training_args.main_process_first():
        return {
            split: as_blocks(rows) if corpus.is_parallel else draw_once(rows, noise, EVALUATION_SEED)
            for split, rows in tokenized.items()
        }


def score(trainer: RecipeTrainer, rows: HeldOutRows, prefix: str) -> dict[str, float]:
    """Scores of held-out rows with the weights as they are."""
    with temporary_attributes(trainer, compute_metrics=rows.metrics):
        return trainer.evaluate(rows.dataset, metric_key_prefix=prefix)


def mixture_table(training: Mapping[str, Dataset], repeats: Mapping[str, float]) -> str:
    """The corpora, and how often their rows come an epoch."""
    lengths = {name: source_target_lengths(rows).sum(axis=0).tolist() for name, rows in training.items()}
    header = ["corpus", "rows", "source tokens", "target tokens", "times an epoch"]
    rows = [[name, len(training[name]), *lengths[name], repeats[name]] for name in training]
    return format_table(header, rows)


def held_out_table(metrics: Mapping[str, float], prefix: str, names: Sequence[str]) -> str:
    """Scores of held-out text, by corpus and over all."""
    rows = []
    for name in ["", *names]:
        prefixes = f"{prefix}_{name}_" if name else f"{prefix}_"
        scores = [metrics.get(f"{prefixes}{score_name}", "") for score_name in PRETRAINING.scores]
        rows.append([name or "all", *scores])
    return format_table(["held-out text", *PRETRAINING.scores], rows)


@torch.no_grad()
def samples_table(trainer: RecipeTrainer, rows: Sequence[Mapping[str, list[int]]]) -> str:
    """What the model makes of some sources by greedy search."""
    tokenizer, model = trainer.processing_class, trainer.model
    batch = tokenizer.pad([{"input_ids": row["input_ids"]} for row in rows], return_tensors="pt").to(model.device)
    limit = max(len(row["labels"]) for row in rows)
    model.eval()
    generated = model.generate(**batch, num_beams=1, max_new_tokens=limit)
    texts = [tokenizer.batch_decode([row["input_ids"] for row in rows])]
    texts += [
        tokenizer.batch_decode(tokens, skip_special_tokens=True)
        for tokens in ([row["labels"] for row in rows], generated)
    ]
    shortened = [[shorten(text, 160, placeholder=" ...") for text in column] for column in texts]
    return format_table(["source", "target", "restored"], list(zip(*shortened, strict=True)))


def languages_of(language: str, corpora: Mapping[str, Corpus]) -> list[str]:
    """That of the text first, then those of the sentence pairs."""
    pairs = [(corpus.source_lang, corpus.target_lang) for corpus in corpora.values() if corpus.is_parallel]
    return list(dict.fromkeys([language, *(name for pair in pairs for name in pair)]))


def mask_usage_lines(output_dir: str, base_model: str | None, example: str) -> str:
    """The Python lines that load the result and fill a mask; in ordinary text the name of a mask is no mask."""
    lines = usage_lines(output_dir, base_model, example)
    return lines.replace('return_tensors="pt"', 'split_special_tokens=False, return_tensors="pt"')


if __name__ == "__main__":
    main()
