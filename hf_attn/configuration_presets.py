# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""Architectures of the literature by name: fields of `HfAttnConfig`. No torch."""

from typing import Any


_TINY = {
    "d_model": 128,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
}

_RECURRENT = {
    "d_model": 256,
    "encoder_attention_heads": 1,
    "decoder_attention_heads": 1,
    "encoder_ffn_dim": 0,
    "decoder_ffn_dim": 0,
    "position_embedding_type": "none",
}

_HYBRID = {
    "d_model": 256,
    "encoder_layers": 6,
    "decoder_layers": 2,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
}

PRESETS: dict[str, dict[str, Any]] = {
    # Bahdanau et al. 2015: a bidirectional GRU encoder, a GRU decoder, additive attention. Their decoder's state takes
    # in what was attended to; here a second GRU does, as in the conditional GRU of Sennrich et al. 2017 (Nematus).
    "bahdanau2015": {
        **_RECURRENT,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_layer_types": "gru",
        "decoder_layer_types": "gru",
        "cross_attention_type": "additive",
    },
    # Luong et al. 2015: stacked unidirectional LSTMs, global attention with the "general" score.
    "luong2015": {
        **_RECURRENT,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_layer_types": "lstm",
        "decoder_layer_types": "lstm",
        "bidirectional_encoder": False,
        "cross_attention_type": "general",
    },
    # The small Transformer of Wu et al. 2021, "Good for Misconceived Reasons".
    "transformer_tiny": {**_TINY, "encoder_layers": 4, "decoder_layers": 4},
    # Vaswani et al. 2017, table 3, "base".
    "transformer_base": {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6},
    # A deep attention encoder under a light recurrent decoder (Kim et al. 2019).
    "hybrid_tiny": {**_TINY, "encoder_layers": 6, "decoder_layers": 2, "decoder_layer_types": "ssru"},
    "hybrid_ssru": {**_HYBRID, "decoder_layer_types": "ssru"},
    "hybrid_lstm": {**_HYBRID, "decoder_layer_types": "lstm"},
    # Linear cost in the source length: windows in the encoder, cross-attention over the whole memory.
    "long_encoder": {
        "d_model": 512,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_layer_types": "sliding_attention",
        "sliding_window": 256,
        "global_attention_tokens": 1,
        "position_embedding_type": "rope",
        "max_position_embeddings": 32768,
    },
}


__all__ = ["PRESETS"]
