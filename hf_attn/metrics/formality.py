# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The form in which a German sentence addresses its reader, formal (Sie) or informal (du, ihr), by rules on words.

The rules, in the order of their certainty:

- **informal**: a form of *du*, *dein*, *euch* or *euer*, or *seid*, with a small or a capital letter;
- **formal**: *Sie*, *Ihnen* or a form of *Ihr* with a capital, after the first word of the sentence, where a capital
  leaves no doubt: "Kommen Sie!", "Wie geht es Ihnen?";
- **informal**: *ihr* as "you all", not "her" or "their", by its verb: "Habt ihr", "Wann geht ihr", "Ihr macht",
  "dass ihr kommt", or a verb form that only "you all" has (*habt*, *könnt*, ...) in the same sentence;
- **formal**: "Sie" as the first word before a plural verb ("Sie sind", or a word in -n: "Sie haben"), unless it must
  be "they": *ihr* or *ihnen* with a small letter beside it ("Sie haben ihren Hund verloren"), or an informal form
  ("Sie suchen dich").

What they cannot know: "Sie haben recht." is "you" or "they", and counts as formal. So count sentences whose source
says "you", where it is "you"; in other text the last rule is right about half the time. Imperatives without a pronoun
("Komm mit!") and sentences whose one sign is a first word such as in "Ihr Hund schläft." ("your", "her" or "their")
count as no address.
"""

import re
from collections.abc import Sequence

from .rows import check_sentences


# Words, and the marks that end a sentence or a clause.
_TOKEN = re.compile(r"[^\W\d_]+|[.!?:…;,]")
_SENTENCE_END = frozenset(".!?:…")
_PUNCTUATION = _SENTENCE_END | frozenset(";,")

_INFORMAL = re.compile(
    r"du|dich|dir|dein(e[mnrs]?)?|dein(er|et)(seits|wegen)|euch|euer|eure[mnrs]?|euretwegen|seid", re.I
)
_FORMAL = re.compile(r"Sie|Ihnen|Ihr(e[mnrs]?)?|Ihretwegen|Ihrerseits")
_THIRD_PERSON = re.compile(r"ihr(e[mnrs]?)?|ihnen")
# Singular verbs in -n, which follow "sie" as "she".
_SINGULAR_IN_N = re.compile(r"kann|begann|gewann|schien|erschien|sann|spann|besann")
# Verb forms that only the second person plural has and that are no participles or nouns.
_SECOND_PLURAL = re.compile(
    r"habt|werdet|könnt|dürft|mü(ss|ß)t|sollt|wollt|mögt|wi(ss|ß)t|hattet|wurdet|konntet|durftet|mu(ss|ß)tet|"
    r"solltet|wolltet|wu(ss|ß)tet|wäre?t|hättet|würdet|könntet|dürftet|mü(ss|ß)tet|möchtet",
    re.I,
)
# Words in -t that make "ihr" beside them "her": verbs of the third person alone, verbs of giving, prepositions.
_NOT_SECOND_PLURAL = re.compile(
    r"hat|ist|hält|hielt|riet|rät|bat|tat|fällt|gibt|hilft|gefällt|gehört|fehlt|schmeckt|pa(ss|ß)t|reicht|gelingt|genügt|"
    r"mit|laut|seit|nicht",
    re.I,
)
_QUESTION = re.compile(r"w(ie|as|en|em|er|ann|arum|ieso|eshalb|elche[mnrs]?|o\w*)", re.I)
_SUBORDINATOR = re.compile(
    r"da(ss|ß)|wenn|ob|weil|als|bevor|nachdem|während|solange|sobald|damit|falls|obwohl|bis|de[nmr]|das|die|denen",
    re.I,
)


def _sentences(text: str) -> list[list[str]]:
    """Words and clause marks of each sentence of a row."""
    sentences: list[list[str]] = [[]]
    for token in _TOKEN.findall(text):
        if token in _SENTENCE_END:
            sentences.append([])
        else:
            sentences[-1].append(token)
    return [sentence for sentence in sentences if any(token not in _PUNCTUATION for token in sentence)]


def _is_plural_you(tokens: list[str], position: int) -> bool:
    """Whether the "ihr" at a position is the subject "you all"."""
    before = tokens[position - 1] if position > 0 else ""
    after = tokens[position + 1] if position + 1 < len(tokens) else ""
    if any(_SECOND_PLURAL.fullmatch(token) for token in tokens):
        return True
    if position == 0:
        return after.islower() and after.endswith("t") and not _NOT_SECOND_PLURAL.fullmatch(after)
    # "Geht ihr", "Gerne geht ihr", "Mit wem geht ihr": the verb is the first or second part of a clause.
    is_early = position <= 2 or any(_QUESTION.fullmatch(token) for token in tokens[:2])
    if is_early and before.endswith("t") and not _NOT_SECOND_PLURAL.fullmatch(before):
        return position == 1 or before.islower()
    # "dass ihr ... kommt": the clause opens with a subordinator and ends in the verb.
    opens_clause = _SUBORDINATOR.fullmatch(before) or _QUESTION.fullmatch(before)
    if opens_clause and not after[:1].isupper():
        marks = (end for end in range(position + 1, len(tokens)) if tokens[end] in _PUNCTUATION)
        clause_end = next(marks, len(tokens))
        verb = tokens[clause_end - 1]
        return clause_end - 1 > position and verb.islower() and verb.endswith("t")
    return False


def _addresses(tokens: list[str]) -> set[str]:
    """The forms of address in one sentence: a subset of {"formal", "informal"}."""
    found = set()
    if any(_INFORMAL.fullmatch(token) for token in tokens):
        found.add("informal")
    if any(_FORMAL.fullmatch(token) for token in tokens[1:]):
        found.add("formal")
    is_ihr = [token == "ihr" or (position == 0 and token == "Ihr") for position, token in enumerate(tokens)]
    if any(_is_plural_you(tokens, position) for position, here in enumerate(is_ihr) if here):
        found.add("informal")
    if not found and tokens[0] == "Sie" and not any(_THIRD_PERSON.fullmatch(token) for token in tokens):
        second = tokens[1] if len(tokens) > 1 else ""
        if second == "sind" or (second.islower() and second.endswith("n") and not _SINGULAR_IN_N.fullmatch(second)):
            found.add("formal")
    return found


def address_form(text: str) -> str:
    """The form in which a German row addresses its reader.

    Args:
        text: One row, of one or more sentences.

    Returns:
        `"formal"`, `"informal"`, `"mixed"` (both) or `"none"`.
    """
    found = set().union(*(_addresses(tokens) for tokens in _sentences(text)))
    if len(found) == 2:
        return "mixed"
    return found.pop() if found else "none"


def formality_share(sentences: Sequence[str]) -> dict[str, float | int]:
    """The numbers of German rows with formal and informal address, by the rules at the head of this module.

    Args:
        sentences: One German string a row.

    Returns:
        `formal`, `informal`, `mixed` and `none` (numbers of rows) and `formality_share`: formal rows over all that
        address somebody, 0 to 1; 0 where none does.

    Raises:
        TypeError: A row is not a string; its index is given.
        ValueError: No rows.
    """
    check_sentences("sentences", sentences)
    counts = dict.fromkeys(("formal", "informal", "mixed", "none"), 0)
    for sentence in sentences:
        counts[address_form(sentence)] += 1
    addressing = len(sentences) - counts["none"]
    return {**counts, "formality_share": counts["formal"] / addressing if addressing else 0.0}
