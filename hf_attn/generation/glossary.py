# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A glossary: source terms that must become given target terms, as a `LogitsProcessor` for beam search.

The constrained beam search of transformers (`force_words_ids`) has left the library for a repository on the Hub. What
stays is the logits processor, and it suffices: it sees every beam of a row at each step, so by masking all other
continuations it decides which ones live on. The choice is that of dynamic beam allocation (Post and Vilar 2018, "Fast
Lexically Constrained Decoding with Dynamic Beam Allocation for Neural Machine Translation", sections 3 and 4):
hypotheses compete with those that have as many tokens of their terms. Scores stay the model's own; the position of a
term that the model finds unlikely everywhere is therefore a poor one.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase
from typing_extensions import override


# A letter or digit of a script that puts spaces between words; Chinese, Japanese, Thai, Lao, Burmese and Khmer do not.
_LETTER = r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
# A combining mark belongs to the letter before it.
_WORD_CHARACTER = rf"(?:{_LETTER}|[\u0300-\u036f])"
# Not between two characters of one word.
_WORD_EDGE = rf"(?:(?<!{_WORD_CHARACTER})|(?!{_WORD_CHARACTER}))"
# An incomplete character, decoded to U+FFFD, counts as a letter: a word may go on with it.
_INSIDE_WORD = re.compile(f"{_WORD_CHARACTER}|\ufffd")


def _normalized(term: str) -> str:
    """A term with its characters composed, as NFC has them, and one space between its words."""
    return unicodedata.normalize("NFC", " ".join(term.split()))


def _pattern(term: str) -> str:
    """A pattern for a term with any white space between its words."""
    return r"\s+".join(re.escape(word) for word in term.split())


def _whole_words(pattern: str) -> str:
    """A pattern for the matches of another one, where no word goes on before or after them."""
    return f"{_WORD_EDGE}(?:{pattern}){_WORD_EDGE}"


def has_term(text: str, term: str) -> bool:
    """Whether a text holds a term as whole words, written exactly so but for white space and composed characters."""
    return re.search(_whole_words(_pattern(_normalized(term))), unicodedata.normalize("NFC", text)) is not None


class Glossary:
    """Source terms and the target terms that they must become.

    A source term is found as whole words. One in small letters is found in any case ("Hound" at the start of a
    sentence); one with capitals only as it is written, so that "US" is not found in "between us". Where terms overlap,
    the one that starts first counts, and of these the longest. The target term must occur at least once, as whole
    words, written exactly so: a glossary inflects nothing. Composed and decomposed characters are the same.

    Args:
        entries: Source term -> target term.

    Raises:
        TypeError: A term is not a string.
        ValueError: There are no entries, or a term is blank.
    """

    def __init__(self, entries: Mapping[str, str]):
        if not entries:
            raise ValueError("`glossary` must hold at least one entry, got none")
        self._entries: dict[str, str] = {}
        for source, target in entries.items():
            for term in (source, target):
                if not isinstance(term, str):
                    raise TypeError(f"`glossary` must map text to text, got {source!r}: {target!r}")
                if not term.strip():
                    raise ValueError(f"`glossary` must hold no blank term, got {source!r}: {target!r}")
            self._entries[_normalized(source)] = _normalized(target)
        longest_first = sorted(self._entries, key=len, reverse=True)
        patterns = (f"(?i:{_pattern(term)})" if term.islower() else _pattern(term) for term in longest_first)
        self._any_term = re.compile(_whole_words("|".join(patterns)))

    @classmethod
    def from_file(cls, path: str | Path) -> "Glossary":
        """Reads a UTF-8 file with a source term, a tab and a target term on each line; blank lines do not count.

        Raises:
            ValueError: There is no such file, or a line has another form, or a source term comes twice.
        """
        entries: dict[str, str] = {}
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"`glossary` must be a text file in UTF-8, got {str(path)!r}: {error}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            terms = [term.strip() for term in line.split("\t")]
            if len(terms) != 2 or not all(terms):
                raise ValueError(
                    f"`glossary` must hold a source term, a tab and a target term on each line, line {number} of "
                    f"{str(path)!r} is {line!r}"
                )
            source = _normalized(terms[0])
            if source in entries:
                raise ValueError(
                    f"`glossary` must hold each source term once, {terms[0]!r} comes again on line {number} of "
                    f"{str(path)!r}"
                )
            entries[source] = terms[1]
        return cls(entries)

    def target_terms(self, text: str) -> list[str]:
        """The target terms, each once, that a translation of `text` must hold, in the order of the source terms."""
        found = self._any_term.finditer(unicodedata.normalize("NFC", text))
        return list(dict.fromkeys(self._target(_normalized(match.group())) for match in found))

    def _target(self, found: str) -> str:
        for term in (found, found.lower()):
            if term in self._entries:
                return self._entries[term]
        # `(?i:)` has more letters that are the same, such as the micro sign and the Greek mu.
        same = (term for term in self._entries if term.islower() and re.fullmatch(re.escape(term), found, re.I))
        return self._entries[next(same)]


class TermTokens:
    """The token ids of target terms, and the tokens at which a word goes on.

    Args:
        tokenizer: Terms are encoded as its targets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._spellings: dict[str, list[tuple[int, ...]]] = {}
        # Decoded after a word, a token shows whether it has a space before it.
        word = next(token_id for token_id in range(len(tokenizer)) if self._decode([token_id]).isalnum())
        start = len(self._decode([word]))
        pieces = [self._decode([word, token_id])[start:] for token_id in range(len(tokenizer))]
        special = set(tokenizer.all_special_ids)
        # Tokens without text stand between others unseen.
        self.silent = frozenset(token for token, piece in enumerate(pieces) if not piece or token in special)
        self.goes_on = [bool(_INSIDE_WORD.match(piece)) for piece in pieces]
        self.stays_open = [bool(piece and _INSIDE_WORD.match(piece[-1])) for piece in pieces]

    def spellings(self, term: str) -> list[tuple[int, ...]]:
        """The token ids of a term: at the start of a text, after a word, and after an opening bracket.

        Raises:
            ValueError: The tokenizer has none that decode to the term.
        """
        if term not in self._spellings:
            candidates = [tuple(self._token_ids(term))]
            for context, joint in (("a", " "), ("(", "")):
                before, whole = self._token_ids(context), self._token_ids(f"{context}{joint}{term}")
                if whole[: len(before)] == before:
                    candidates.append(tuple(whole[len(before) :]))
            same = [ids for ids in dict.fromkeys(candidates) if _normalized(self._decode(ids)) == _normalized(term)]
            if not same:
                raise ValueError(f"`glossary` must hold target terms that the tokenizer can write, got {term!r}")
            self._spellings[term] = same
        return self._spellings[term]

    def _token_ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text_target=text, add_special_tokens=False)["input_ids"])

    def _decode(self, token_ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text if isinstance(text, str) else "".join(text)


class _Coverage(NamedTuple):
    """The terms of its row that a hypothesis has, in whole or in part.

    Attributes:
        met: Terms that occur and whose last word has ended.
        begun: Spellings under way: the term, its token ids, and how many of them are there. One with all of them
            waits for the token that ends the word.
        last: The last token with text, if any.
        is_over: Whether the model would have ended it before now.
    """

    met: frozenset[int] = frozenset()
    begun: tuple[tuple[int, tuple[int, ...], int], ...] = ()
    last: int | None = None
    is_over: bool = False


class _RowTerms:
    """The terms of one row, and the hypotheses that are alive in its beams."""

    def __init__(self, terms: Iterable[str], tokens: TermTokens):
        self.tokens = tokens
        self.spellings = [tokens.spellings(term) for term in terms]
        # After a word only a spelling with a space can begin: the longest, to be sure that there is room for it.
        self.lengths = [max(len(ids) for ids in spellings) for spellings in self.spellings]
        self.alive: dict[tuple[int, ...], tuple[float, _Coverage]] = {}

    def advance(self, coverage: _Coverage, token: int) -> _Coverage:
        """The coverage once a token is appended."""
        if token in self.tokens.silent or token >= len(self.tokens.goes_on):
            return coverage
        met, begun = set(coverage.met), []
        for term, ids, matched in coverage.begun:
            if matched < len(ids):
                if ids[matched] == token:
                    begun.append((term, ids, matched + 1))
            elif not (self.tokens.goes_on[token] and self.tokens.stays_open[ids[-1]]):
                met.add(term)
        begun += [(term, ids, 1) for term, ids in self._startable(coverage) if ids[0] == token]
        begun = [entry for entry in begun if entry[0] not in met]
        return _Coverage(frozenset(met), tuple(begun), token, coverage.is_over)

    def _startable(self, coverage: _Coverage) -> list[tuple[int, tuple[int, ...]]]:
        """Spellings that may begin at the next token."""
        inside_word = coverage.last is not None and self.tokens.stays_open[coverage.last]
        return [
            (term, ids)
            for term, spellings in enumerate(self.spellings)
            if term not in coverage.met
            for ids in spellings
            if not (inside_word and self.tokens.goes_on[ids[0]])
        ]

    def missing(self, coverage: _Coverage) -> int:
        """Tokens that the terms still need."""
        needed = {term: length for term, length in enumerate(self.lengths) if term not in coverage.met}
        for term, ids, matched in coverage.begun:
            needed[term] = min(needed[term], len(ids) - matched)
        return sum(needed.values())

    def next_tokens(self, coverage: _Coverage) -> set[int]:
        """Tokens that begin a term or carry one on; what the model would have ended begins none before one is done."""
        carried_on = {ids[matched] for _, ids, matched in coverage.begun if matched < len(ids)}
        if coverage.is_over and carried_on:
            return carried_on
        return carried_on | {ids[0] for _, ids in self._startable(coverage)}


class GlossaryLogitsProcessor(LogitsProcessor):
    """Keeps in each row's beams hypotheses that will hold the row's terms; for one call of `generate` with beams.

    At each step the candidates of a row are the best continuations over all its beams, the best one of each beam, and
    those that begin a term or carry one on. None may end without all terms, or leave too few tokens for the rest; one
    that the model would end goes on with its terms alone, as more sentences could cost less than they do. They are
    grouped by how many tokens of the terms they have; the best of each group live on, then the second of each, groups
    with more tokens first, until the beams are full. All other continuations get a score of minus infinity.

    Rows without terms are left alone. A row of which other processors forbid every candidate loses its hypotheses.

    Args:
        terms: The target terms of each row of the batch.
        tokens: Of the tokenizer that decodes the outputs.
        prompts: Token ids that the hypotheses of each row start with.
        num_beams: Beams of a row, at least 2.
        max_length: Most tokens of a hypothesis, the prompt included.
        eos_token_ids: Tokens that end a hypothesis.

    Raises:
        ValueError: The terms of a row do not fit into `max_length`.
    """

    def __init__(
        self,
        terms: Sequence[Sequence[str]],
        tokens: TermTokens,
        prompts: Sequence[Sequence[int]],
        *,
        num_beams: int,
        max_length: int,
        eos_token_ids: Sequence[int],
    ):
        self._num_beams = num_beams
        self._max_length = max_length
        self._eos_token_ids = list(eos_token_ids)
        self._rows = {row: _RowTerms(row_terms, tokens) for row, row_terms in enumerate(terms) if row_terms}
        for row, state in self._rows.items():
            coverage = _Coverage()
            for token in prompts[row]:
                coverage = state.advance(coverage, token)
            room = max_length - len(prompts[row]) - 1
            if state.missing(coverage) > room:
                raise ValueError(
                    f"`max_new_tokens` must leave room for the target terms {', '.join(map(repr, terms[row]))} and "
                    f"the end, which take {state.missing(coverage) + 1} tokens, got {room + 1}"
                )
            state.alive = {tuple(prompts[row]): (0.0, coverage)}

    @override
    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`LogitsProcessor.__call__`: masks the continuations that do not live on.

        Args:
            input_ids: int64 (rows * num_beams, length): the hypotheses.
            scores: float (rows * num_beams, vocab_size): log-probabilities of the next token.

        Returns:
            The scores, minus infinity where masked.
        """
        kept = scores.clone()
        for row, state in self._rows.items():
            beams = slice(row * self._num_beams, (row + 1) * self._num_beams)
            chosen = self._choose(state, input_ids[beams].tolist(), scores[beams])
            mask = torch.ones_like(kept[beams], dtype=torch.bool)
            for beam, token in chosen:
                mask[beam, token] = False
            kept[beams] = kept[beams].masked_fill(mask, -torch.inf)
        return kept  # type: ignore[return-value]

    def _choose(self, state: _RowTerms, hypotheses: list[list[int]], log_probs: torch.Tensor) -> list[tuple[int, int]]:
        """Beams and tokens that live on; `state.alive` then holds the hypotheses that they make."""
        # Beams that are filled up with copies, or with what was masked, come after the real ones.
        alive = [state.alive.pop(tuple(hypothesis), None) for hypothesis in hypotheses]
        totals = log_probs + log_probs.new_tensor([entry[0] if entry else -torch.inf for entry in alive])[:, None]
        for beam, entry in enumerate(alive):
            if entry is None or not state.missing(entry[1]):
                continue
            total, coverage = entry
            if int(totals[beam].argmax()) in self._eos_token_ids:
                coverage = coverage._replace(is_over=True)
                alive[beam] = total, coverage
            if coverage.is_over:
                # Else another sentence, and another, may cost less than the term.
                others = torch.ones_like(totals[beam], dtype=torch.bool)
                others[[token for token in state.next_tokens(coverage) if token < len(others)]] = False
                totals[beam, others] = -torch.inf
            totals[beam, self._eos_token_ids] = -torch.inf
        candidates = self._candidates(state, alive, totals)
        length = len(hypotheses[0]) + 1
        groups: dict[int, list[tuple[int, int]]] = {}
        coverages = {}
        for beam, token in sorted(candidates, key=lambda key: (-candidates[key], key)):
            entry = alive[beam]
            if entry is None or candidates[beam, token] == -torch.inf:
                continue
            coverage = state.advance(entry[1], token)
            missing = state.missing(coverage)
            if missing and missing > self._max_length - length - 1:
                continue
            coverages[beam, token] = coverage
            groups.setdefault(missing, []).append((beam, token))
        ranked = sorted((rank, missing, key) for missing, keys in groups.items() for rank, key in enumerate(keys))
        chosen = [key for _, _, key in ranked[: self._num_beams]]
        state.alive = {
            (*hypotheses[beam], token): (candidates[beam, token], coverages[beam, token])
            for beam, token in chosen
            if token not in self._eos_token_ids
        }
        return chosen

    def _candidates(
        self, state: _RowTerms, alive: Sequence[tuple[float, _Coverage] | None], totals: torch.Tensor
    ) -> dict[tuple[int, int], float]:
        """Scores of the continuations that compete, by beam and token."""
        vocab_size = totals.shape[1]
        best = totals.flatten().topk(min(self._num_beams, totals.numel()))
        keys = [divmod(index, vocab_size) for index in best.indices.tolist()]
        keys += list(enumerate(totals.argmax(dim=1).tolist()))
        keys += [
            (beam, token)
            for beam, entry in enumerate(alive)
            if entry is not None
            for token in state.next_tokens(entry[1])
            if token < vocab_size
        ]
        keys = list(dict.fromkeys(keys))
        beams, tokens = zip(*keys, strict=True)
        return dict(zip(keys, totals[list(beams), list(tokens)].tolist(), strict=True))
