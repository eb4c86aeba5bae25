# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Decoding: sentences a second of ours, of transformers' Marian, and of the same Marian in CTranslate2.

    python benchmarks/bench_decoding.py
    python benchmarks/bench_decoding.py --model DIR --peer DIR
    python benchmarks/bench_decoding.py --model DIR
    python benchmarks/bench_decoding.py --beams 4 --batches 1 --threads 1

With `--model` and `--peer`, output directories of recipes/translation.py, outputs are as long as the models make them,
and the quality is BLEU over the whole test set; `--model` alone compares our ways of decoding with each other. Without
them the weights are random, of `hybrid_ssru` and of a Marian of 3 + 3 layers of the same width, special tokens are
never the likeliest, and every output has the same number of tokens, so that the work is equal; the quality is then the
share of outputs that are those of `generate` in float32.

Every system runs in a process of its own, on batches of token ids of like length; the processes take turns. To measure
a further way of decoding ours, add a line to `OURS`.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from corpus import Corpus, find_corpus, tokenizer_for
from hf_attn import HfAttnConfig
from hf_attn.generation import fast_generate, pack_linears
from hf_attn.metrics import bleu
from measuring import Sample, Stopwatch, interleave, rates, warn_if_busy
from models import SIZES, fresh_model, marian_config
from recording import Row, command_line, compare, write_rows
from workers import Requests, Worker


class Way(NamedTuple):
    """A way of decoding ours: the weights that `pack_linears` makes, if any, and the options of `generate`."""

    weights: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})


OURS = {
    "generate": Way(),
    "generate, int8": Way("int8"),
    "fast": Way("float32", {"custom_generate": fast_generate}),
    "fast, int8": Way("int8", {"custom_generate": fast_generate}),
}
MARIAN, CT2_FLOAT32, CT2_INT8 = "Marian", "CTranslate2 float32", "CTranslate2 int8"
PEERS = (MARIAN, CT2_FLOAT32, CT2_INT8)

# Row -> least ratio, by batch size where it differs.
GENERATE_GOALS = {"generate": {1: 2.0}, "generate, int8": {1: 4.0}}
FASTEST_GOALS: dict[str, dict[int, float]] = {
    MARIAN: {1: 7.0, 64: 4.0},
    CT2_FLOAT32: {1: 1.5, 32: 1.5, 64: 1.5},
    CT2_INT8: {1: 1.0, 32: 1.0, 64: 1.0},
}
# Sentences of a round, by batch size: (quick, full).
SENTENCES = {1: (10, 40), 32: (64, 192), 64: (128, 320)}
FORCED_LENGTH, LONGEST = 16, 96
# Sentences whose outputs are compared, where the weights are random.
COMPARED = 128


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="trained model of ours; default: hybrid_ssru with random weights")
    parser.add_argument("--peer", help="trained Marian; without it, a trained model of ours has no peers")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32, 64], help="sentences")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="fewer sentences and rounds, one thread alone")
    parser.add_argument("--rounds", type=int, help="rounds that count; default: 7, or 3 with --quick")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        decoding_worker(json.loads(arguments.worker))
        return
    if arguments.model is None and arguments.peer is not None:
        parser.error("give --model too, trained on the same data as the model of --peer")
    warn_if_busy()
    corpus = find_corpus()
    with tempfile.TemporaryDirectory() as folder:
        plan = prepare(Path(folder), corpus, arguments.model, arguments.peer)
        for threads in arguments.threads[:1] if arguments.quick else arguments.threads:
            torch.set_num_threads(threads)
            write_rows("decoding", decoding_rows(plan, corpus, threads, arguments))


def prepare(folder: Path, corpus: Corpus, model: str | None, peer: str | None) -> dict[str, dict[str, Any]]:
    """What each system's worker is told: the model, the sentences as token ids, and how long outputs are."""
    is_forced = model is None
    if is_forced:
        tokenizer = tokenizer_for(corpus.pairs("train"))
        model, peer = str(folder / "model"), str(folder / "peer")
        names = ("pad_token_id", "bos_token_id", "eos_token_id")
        own_config = HfAttnConfig.from_preset(
            "hybrid_ssru", vocab_size=len(tokenizer), **{name: getattr(tokenizer, name) for name in names}
        )
        save_endless(own_config, tokenizer, model)
        save_endless(marian_config(SIZES["small"], len(tokenizer), tokenizer), tokenizer, peer)
    sources = [source for source, _ in corpus.pairs("test")]
    plan = {}
    for name in (*OURS, *PEERS) if peer else OURS:
        if torch.cuda.is_available() and name in OURS and OURS[name].weights == "int8":
            continue
        directory = model if name in OURS else peer
        if name in (CT2_FLOAT32, CT2_INT8):
            if find_spec("ctranslate2") is None:
                print(f"{name} is skipped: it needs `pip install 'hf_attn[bench]'`.")
                continue
            converted = folder / "ctranslate2"
            if not converted.is_dir():
                convert_marian(str(peer), converted)
        file = folder / f"sources_{'own' if name in OURS else 'peer'}.json"
        if not file.is_file():
            tokenizer = AutoTokenizer.from_pretrained(directory)
            file.write_text(json.dumps(tokenizer(sources)["input_ids"]), encoding="utf-8")
        plan[name] = {
            "system": name,
            "directory": directory,
            "converted": str(folder / "ctranslate2"),
            "sources": str(file),
            "is_forced": is_forced,
        }
    return plan


def save_endless(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, directory: str) -> None:
    """Save random weights that never end an output: the logits of special tokens are 0, below those of others."""
    config.decoder_start_token_id = tokenizer.bos_token_id
    model = fresh_model(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.all_special_ids] = 0.0
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def decoding_rows(
    plan: Mapping[str, Mapping[str, Any]], corpus: Corpus, threads: int, arguments: argparse.Namespace
) -> list[Row]:
    """All systems in turn, for each number of beams and size of batch."""
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    rows = []
    workers = {name: Worker(__file__, task, threads) for name, task in plan.items()}
    try:
        for beams in arguments.beams:
            quality = qualities(workers, corpus, beams, is_forced=arguments.model is None)
            for batch in arguments.batches:
                quick, full = SENTENCES.get(batch, (2 * batch, 6 * batch))
                request = {"beams": beams, "batch": batch, "sentences": quick if arguments.quick else full}
                samples = interleave(
                    {name: partial(worker.sample, request) for name, worker in workers.items()}, rounds
                )
                rows += compared_rows(samples, quality, corpus.name, beams, batch, threads, arguments)
    finally:
        for worker in workers.values():
            worker.close()
    return rows


def compared_rows(
    samples: Mapping[str, list[Sample]],
    quality: Mapping[str, str],
    corpus: str,
    beams: int,
    batch: int,
    threads: int,
    arguments: argparse.Namespace,
) -> list[Row]:
    """`generate` against Marian, the fastest way against every peer; without peers, all ways against `generate`."""
    fastest = max((name for name in samples if name in OURS), key=lambda name: rates(samples[name]).median)
    search = "greedy" if beams == 1 else f"beam {beams}"
    weights = "random weights" if arguments.model is None else "trained"
    place = f"{search}, batch {batch}, {threads} thread{'s' * (threads > 1)}, {corpus}, {weights}"
    command = command_line(
        __file__,
        model=arguments.model,
        peer=arguments.peer,
        beams=beams,
        batches=batch,
        threads=threads,
        quick=arguments.quick,
        rounds=arguments.rounds,
    )

    def row(what: str, ours: str, peer: str, goal: float | None) -> Row:
        return compare(
            f"{what} against {peer}; {place}",
            (ours, samples[ours]),
            (peer, samples[peer]),
            "sentences",
            command=command,
            goal=goal,
            quality=f"{quality[ours]}; {peer}: {quality[peer]}",
        )

    if MARIAN not in samples:
        return [row(f"`{name}`", name, "generate", None) for name in samples if name != "generate"]
    rows = [
        row(f"`{name}`", name, MARIAN, goals.get(batch)) for name, goals in GENERATE_GOALS.items() if name in samples
    ]
    if CT2_FLOAT32 in samples:
        rows.append(row("`fast`", "fast", CT2_FLOAT32, None))
    rows += [
        row("fastest", fastest, peer, goals.get(batch)) for peer, goals in FASTEST_GOALS.items() if peer in samples
    ]
    return rows


def qualities(workers: Mapping[str, Worker], corpus: Corpus, beams: int, is_forced: bool) -> dict[str, str]:
    """BLEU of each system over the test set; where weights are random, outputs that equal those of the reference."""
    request = {"outputs": True, "beams": beams, "batch": 64, "count": COMPARED if is_forced else None}
    outputs = {name: worker.ask(request)["outputs"] for name, worker in workers.items()}
    if not is_forced:
        references = [target for _, target in corpus.pairs("test")]
        return {name: f"{bleu(texts, references)['bleu']:.2f} BLEU" for name, texts in outputs.items()}
    result = {}
    for name, texts in outputs.items():
        reference = "generate" if name in OURS else MARIAN
        share = sum(map(str.__eq__, texts, outputs[reference])) / len(texts)
        result[name] = "reference" if name == reference else f"{share:.0%} of outputs as {reference}"
    return result


def batches_of(sources: Sequence[Sequence[int]], batch: int, count: int | None) -> list[list[int]]:
    """
    Row numbers in batches of like length: all of them, or as many as hold `count` rows, spread over the lengths.
    """
    order = sorted(range(len(sources)), key=lambda place: len(sources[place]), reverse=True)
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    if count is None:
        return batches
    number = min(len(batches), max(1, count // batch))
    return [batches[(2 * place + 1) * len(batches) // (2 * number)] for place in range(number)]


def decoding_worker(task: Mapping[str, Any]) -> None:
    """Answer requests with the time of some batches, or with the outputs of all."""
    requests = Requests()
    sources = json.loads(Path(task["sources"]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(task["directory"])
    make = ctranslate2_decoder if task["system"] in (CT2_FLOAT32, CT2_INT8) else transformers_decoder
    decode = make(task, tokenizer)
    for request in requests:
        wants_outputs = request.get("outputs", False)
        count = request["count"] if wants_outputs else request["sentences"]
        batches = batches_of(sources, request["batch"], count)
        rows = [[sources[place] for place in batch] for batch in batches]
        watch = Stopwatch()
        outputs = [decode(some_rows, request["beams"]) for some_rows in rows]
        sample = watch.stop(float(sum(map(len, rows))))
        if not wants_outputs:
            requests.answer(sample)
            continue
        texts = tokenizer.batch_decode([ids for some in outputs for ids in some], skip_special_tokens=True)
        places = [place for batch in batches for place in batch]
        in_order = [text.strip() for _, text in sorted(zip(places, texts, strict=True))]
        requests.answer({"outputs": in_order})


Decoder = Callable[[Sequence[Sequence[int]], int], list[list[int]]]


def transformers_decoder(task: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> Decoder:
    """`generate` of ours or of Marian."""
    way = OURS.get(task["system"], Way())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(task["directory"]).to(device).eval()
    if way.weights is not None and device == "cpu":
        model = pack_linears(model, way.weights)
    length = FORCED_LENGTH if task["is_forced"] else LONGEST
    model.generation_config.max_length = None

    def decode(rows: Sequence[Sequence[int]], beams: int) -> list[list[int]]:
        inputs = tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt").to(device)
        with torch.inference_mode():
            output = model.generate(**inputs, num_beams=beams, max_new_tokens=length, do_sample=False, **way.options)
        return output[:, 1:].tolist()

    return decode


def ctranslate2_decoder(task: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> Decoder:
    """CTranslate2's own search."""
    # Optional.
    import ctranslate2

    translator = ctranslate2.Translator(
        task["converted"],
        device="cuda" if torch.cuda.is_available() else "cpu",
        compute_type="int8" if task["system"] == CT2_INT8 else "float32",
        intra_threads=torch.get_num_threads(),
        inter_threads=1,
    )
    length = FORCED_LENGTH if task["is_forced"] else LONGEST

    def decode(rows: Sequence[Sequence[int]], beams: int) -> list[list[int]]:
        tokens = [tokenizer.convert_ids_to_tokens(row) for row in rows]
        results = translator.translate_batch(tokens, beam_size=beams, max_decoding_length=length)
        return [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]

    return decode


def convert_marian(directory: str, output: Path) -> None:
    """Write a Marian with a tokenizer of any kind in CTranslate2's format, its weights in float32."""
    # Optional, and slow to import.
    from ctranslate2.converters.converter import Converter
    from ctranslate2.converters.transformers import BartLoader

    class MarianConverter(Converter):
        """The converter of BART, with Marian's norms; CTranslate2's own for Marian wants its SentencePiece files."""

        def _load(self):
            model = AutoModelForSeq2SeqLM.from_pretrained(directory).eval().requires_grad_(False)
            model.config.normalize_before = model.config.normalize_embedding = False
            return BartLoader()(model, AutoTokenizer.from_pretrained(directory))

    MarianConverter().convert(str(output))


if __name__ == "__main__":
    main()
