# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Tasks as records: what they name is there, and a model's head is told from the model."""

import subprocess
import sys

import pytest
import transformers
from peft import TaskType
from transformers import BartConfig, BartForSequenceClassification
from transformers.pipelines import get_supported_tasks

from hf_attn import (
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
    HfAttnModel,
)
from hf_attn.pipelines import TASKS as PIPELINES
from hf_attn.tasks import CLASSIFICATION_HEAD, HEADS, PRETRAINING, SPAN_HEAD, TASKS, WRITING_HEAD, head_of
from tests.utils import tiny_config, tiny_model


def test_what_the_records_name_is_there():
    assert {task.head for task in TASKS} == set(HEADS)
    for task in TASKS:
        assert task.head.load_class() is getattr(transformers, task.head.auto_class)
        assert TaskType(task.head.peft_type).value == task.head.peft_type
        assert task.pipeline is None or task.pipeline in get_supported_tasks()
        assert task.main_score in task.metrics and task.main_score in task.scores
    assert PRETRAINING in TASKS and PRETRAINING.pipeline is None
    assert set(PIPELINES) == {task.pipeline for task in TASKS if (task.pipeline or "").startswith("attn-")}


@pytest.mark.parametrize(
    ("model_class", "head"),
    [
        (HfAttnForConditionalGeneration, WRITING_HEAD),
        (HfAttnForQuestionAnswering, SPAN_HEAD),
        (HfAttnForSequenceClassification, CLASSIFICATION_HEAD),
    ],
)
def test_the_head_of_a_model(model_class, head):
    assert head_of(tiny_model(model_class=model_class)) is head


def test_the_head_of_another_family_and_of_none():
    sizes = {"vocab_size": 20, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 1}
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    widths = dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 8)
    bart = BartForSequenceClassification(BartConfig(**sizes, **heads, **widths))
    assert head_of(bart) is CLASSIFICATION_HEAD
    assert CLASSIFICATION_HEAD.modules_of(bart) == ["classification_head"]
    with pytest.raises(
        ValueError, match=r"`model` must have the head of a task, as what .* load has, got HfAttnModel"
    ):
        head_of(HfAttnModel(tiny_config()))


def test_the_records_load_nothing():
    """They stand below all that reads them."""
    program = (
        "import sys; sys.modules['hf_attn'] = type(sys)('hf_attn'); sys.modules['hf_attn'].__path__ = ['hf_attn']"
    )
    program += "; import hf_attn.tasks; print([name for name in sys.modules if name in ('torch', 'peft', 'datasets')])"
    program += "; print(sorted(name for name in sys.modules if name.startswith('hf_attn.')))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[1] == "['hf_attn.tasks']" and "peft" not in shown
