#!/usr/bin/env bash
# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# tokenizers 0.23.1 and 0.23.2 stop reading a text once they have `max_length` tokens of it, special tokens and the
# other text of a pair not counted. What follows is in no window of `overflowing`, which should hold the rest; there
# is no error and no warning. A text of at most `max_length` tokens loses nothing, one of a few more its last window,
# a long one nearly all. It happens to single texts and to pairs, with and without `stride`, under every strategy;
# with `direction="left"` the start is lost. The word that reaches `max_length` is read whole, so that a text which
# the pre-tokenizer does not split loses nothing. The first window is right, but where `longest_first` cuts a pair of
# texts that both reach `max_length`, an odd token goes to the second even if the first is longer.
# The release notes of 0.23.3 call it a breaking change from 0.23.1 that is now fixed (huggingface/tokenizers, issue
# 2091).
# 0.23.1 was seen to give what 0.23.2 gives, and 0.21.4, 0.22.0 and 0.22.2 what 0.23.3 gives.
# Seen on 2026-11-30 with tokenizers 0.23.2 and 0.23.3, on a CPU:
#   tokenizers 0.23.2
#     8 words: abcdef gh, in no window: none
#     16 words: abcdef gh, in no window: ijklmnop
#     16 words, stride 2: abcdef efgh, in no window: ijklmnop
#     16 words, left: klmnop ij, in no window: abcdefgh
#     1 word of 16 tokens: abcdef ghijkl mnop, in no window: none
#     only_second, stride 2: abcdefg fghijkl, in no window: mnop
#     longest_first, 16 and 12 words: [CLS] a b c [SEP] a b c d [SEP]
#   tokenizers 0.23.3
#     8 words: abcdef gh, in no window: none
#     16 words: abcdef ghijkl mnop, in no window: none
#     16 words, stride 2: abcdef efghij ijklmn mnop, in no window: none
#     16 words, left: klmnop efghij abcd, in no window: none
#     1 word of 16 tokens: abcdef ghijkl mnop, in no window: none
#     only_second, stride 2: abcdefg fghijkl klmnop, in no window: none
#     longest_first, 16 and 12 words: [CLS] a b c d [SEP] a b c [SEP]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'EOF'
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = "a b c d e f g h i j k l m n o p".split()
TEXT = " ".join(WORDS)
QUESTION = "x y"
SPECIAL = {"[CLS]": 0, "[SEP]": 1}
IS_CUT = tokenizers.__version__ in ("0.23.1", "0.23.2")
# What is encoded, how it is cut, and the words that the versions that stop early lose.
CASES = {
    "8 words": ([TEXT[:15]], {"max_length": 8}, ""),
    "16 words": ([TEXT], {"max_length": 8}, "ijklmnop"),
    "16 words, stride 2": ([TEXT], {"max_length": 8, "stride": 2}, "ijklmnop"),
    "16 words, left": ([TEXT], {"max_length": 8, "direction": "left"}, "abcdefgh"),
    "1 word of 16 tokens": ([TEXT.replace(" ", "")], {"max_length": 8}, ""),
    "only_second, stride 2": ([QUESTION, TEXT], {"max_length": 12, "stride": 2, "strategy": "only_second"}, "mnop"),
}

# Each letter is a token.
tokenizer = Tokenizer(models.BPE(SPECIAL | {letter: 2 + i for i, letter in enumerate([*WORDS, "x", "y"])}, []))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=list(SPECIAL.items())
)

print(f"tokenizers {tokenizers.__version__}")
changed = False
for name, (texts, cut, lost_if_cut) in CASES.items():
    tokenizer.enable_truncation(**cut)
    first = tokenizer.encode(*texts)
    windows = ["".join(t for t in window.tokens if t in WORDS) for window in [first, *first.overflowing]]
    lost = "".join(letter for letter in texts[-1].replace(" ", "") if letter not in "".join(windows))
    print(f"  {name}: {' '.join(windows)}, in no window: {lost or 'none'}")
    changed |= lost != (lost_if_cut if IS_CUT else "")
tokenizer.enable_truncation(max_length=10, strategy="longest_first")
tokens = tokenizer.encode(TEXT, TEXT[:23]).tokens
print(f"  longest_first, 16 and 12 words: {' '.join(tokens)}")
if changed or tokens.index("[SEP]") != (4 if IS_CUT else 5):
    raise SystemExit("This is not what was seen before.")
EOF
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
cd "$folder"
for version in 0.23.2 0.23.3; do
    "$folder/venv/bin/pip" install --quiet --no-deps "tokenizers==$version"
    "$folder/venv/bin/python" -I show.py
done
