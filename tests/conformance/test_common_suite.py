# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""transformers' own `ModelTesterMixin` and `ConfigTester` over a few configurations and all classes of the family."""

import unittest

import pytest

from hf_attn import (
    HfAttnConfig,
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
    HfAttnModel,
)
from tests.conformance.transformers_tests import SuiteUnavailableError, load
from tests.utils import tiny_config


try:
    common = load("test_modeling_common")
    configuration_common = load("test_configuration_common")
except SuiteUnavailableError as error:
    pytest.skip(str(error), allow_module_level=True)


NO_MAPS = "recurrent layers have no attention map, and the test counts one a layer"
# Test name -> reason, for every configuration, and by configuration.
SKIPS: dict[str, str] = {
    "test_tied_head_has_a_tp_plan_entry": "our plan shards neither the embedding nor the head that is tied to it",
}
SKIPS_BY_CONFIGURATION: dict[str, dict[str, str]] = {
    "TestFullAttentionToSSRU": {
        "test_attention_outputs": NO_MAPS,
        "test_retain_grad_hidden_states_attentions": NO_MAPS,
    },
    "TestLSTMAdditive": {
        "test_attention_outputs": NO_MAPS,
        "test_retain_grad_hidden_states_attentions": NO_MAPS,
    },
    "TestSlidingToLinear": {
        "test_retain_grad_hidden_states_attentions": (
            "the output of linear attention does not go through its map, so no gradient reaches the map"
        ),
    },
}

# The suite knows what inputs a class takes by its place in these tables, in which only transformers' models stand.
CLASSES_BY_TABLE = {
    "MODEL_MAPPING_NAMES": HfAttnModel,
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": HfAttnForConditionalGeneration,
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES": HfAttnForQuestionAnswering,
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES": HfAttnForSequenceClassification,
}
_transformers_values = common.get_values


def values_with_ours(table: dict[str, str]) -> list[str]:
    ours = [model_class.__name__ for name, model_class in CLASSES_BY_TABLE.items() if table is getattr(common, name)]
    return [*_transformers_values(table), *ours]


common.get_values = values_with_ours


class HfAttnModelTester:
    """What the suite asks of a family: a tiny config, inputs for it, and its sizes."""

    batch_size = 3
    seq_length = 7
    hidden_size = 16
    num_hidden_layers = 2
    num_attention_heads = 4
    is_training = True

    def __init__(self, parent: unittest.TestCase, overrides: dict):
        self.parent = parent
        self.overrides = overrides

    def get_config(self) -> HfAttnConfig:
        return tiny_config(hidden_size=self.hidden_size, heads=self.num_attention_heads, **self.overrides)

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        input_ids = common.ids_tensor([self.batch_size, self.seq_length], config.vocab_size - 4) + 4
        decoder_input_ids = common.ids_tensor([self.batch_size, self.seq_length], config.vocab_size - 4) + 4
        inputs = {
            "input_ids": input_ids,
            "attention_mask": common.torch.ones_like(input_ids),
            "decoder_input_ids": decoder_input_ids,
            "decoder_attention_mask": common.torch.ones_like(decoder_input_ids),
        }
        return config, inputs


class CommonSuite(common.ModelTesterMixin, common.GenerationTesterMixin):
    all_model_classes = tuple(CLASSES_BY_TABLE.values())
    is_encoder_decoder = True
    overrides: dict = {}

    def setUp(self):
        name = self._testMethodName
        reason = SKIPS.get(name) or SKIPS_BY_CONFIGURATION.get(type(self).__name__, {}).get(name)
        if reason is not None:
            self.skipTest(reason)
        self.model_tester = HfAttnModelTester(self, self.overrides)
        self.config_tester = configuration_common.ConfigTester(self, config_class=HfAttnConfig, d_model=32)

    # 4,000 comparisons of parameters, which pytest counts one by one.
    test_bc_torch_dtype = pytest.mark.slow(common.ModelTesterMixin.test_bc_torch_dtype)

    def test_config(self):
        self.config_tester.run_common_tests()


class TestFullAttention(CommonSuite, unittest.TestCase):
    pass


@pytest.mark.slow
class TestFullAttentionToSSRU(CommonSuite, unittest.TestCase):
    overrides = {"decoder_layer_types": "ssru"}


@pytest.mark.slow
class TestLSTMAdditive(CommonSuite, unittest.TestCase):
    overrides = {
        "encoder_layer_types": "lstm",
        "decoder_layer_types": "lstm",
        "cross_attention_type": "additive",
        "position_embedding_type": "none",
    }


@pytest.mark.slow
class TestSlidingToLinear(CommonSuite, unittest.TestCase):
    overrides = {"encoder_layer_types": "sliding_attention", "decoder_layer_types": "linear_attention"}
