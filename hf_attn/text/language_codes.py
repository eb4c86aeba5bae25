# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The language tokens of multilingual tokenizers: those of M2M100, NLLB, mBART and their kin."""

from difflib import get_close_matches
from typing import Any, cast

from transformers import PreTrainedTokenizerBase


def has_language_codes(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer marks each text with its language."""
    return hasattr(tokenizer, "src_lang")


def language_token_id(tokenizer: PreTrainedTokenizerBase, field: str, code: str) -> int:
    """
    The id of the token of a language.

    Args:
        tokenizer: Of one language or of several.
        field: Name of the argument that the code comes from, for messages.
        code: As the tokenizer spells it: `de` (M2M100), `deu_Latn` (NLLB), `de_DE` (mBART).

    Raises:
        ValueError: The tokenizer has no language tokens, or none for this code.
    """
    if not has_language_codes(tokenizer):
        raise ValueError(
            f"`{field}` is for tokenizers with a token for each language, which {type(tokenizer).__name__} is not, "
            f"got {code!r}. Leave it out."
        )
    tokens = _tokens_of_codes(tokenizer)
    if code not in tokens:
        near = get_close_matches(code, tokens, n=3, cutoff=0.3) or sorted(tokens)[:3]
        raise ValueError(
            f"`{field}` must be one of the {len(tokens)} language codes of the tokenizer, such as {', '.join(near)}, "
            f"got {code!r}."
        )
    return cast(int, tokenizer.convert_tokens_to_ids(tokens[code]))


def _tokens_of_codes(tokenizer: Any) -> dict[str, str]:
    # The token of the code `de` is `__de__` for M2M100; elsewhere they are the same.
    return getattr(tokenizer, "lang_code_to_token", None) or {token: token for token in tokenizer.extra_special_tokens}


def set_languages(tokenizer: PreTrainedTokenizerBase, source_code: str, target_code: str) -> int:
    """
    Sets the languages with which a multilingual tokenizer marks sources and targets.

    Args:
        tokenizer: Its `src_lang` and `tgt_lang` are changed.
        source_code, target_code: Codes of the languages, `src_lang` and `tgt_lang` in messages.

    Returns:
        The token that generation starts with: `forced_bos_token_id`.

    Raises:
        ValueError: As `language_token_id`; nothing is changed then.
    """
    language_token_id(tokenizer, "src_lang", source_code)
    target_id = language_token_id(tokenizer, "tgt_lang", target_code)
    languages: Any = tokenizer
    languages.src_lang, languages.tgt_lang = source_code, target_code
    return target_id
