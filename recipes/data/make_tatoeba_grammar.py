# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Put learners' errors into English sentences of Tatoeba, for grammar correction; the same bytes each time.

    python recipes/data/make_tatoeba_grammar.py ../shared/data/translation/tatoeba_en_de

The kinds of errors are frequent ones of the CoNLL-2014 shared task (Ng et al. 2014). They are made by rules on words,
not taken from learners' texts, as in the pre-training of Choe et al. 2019 and Grundkiewicz et al. 2019. A verb gets a
wrong form only where the word before it tells which is right; a changed preposition or article may be right too.
"""

import argparse
import random
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from splits import read_split, write_split


OUTPUT = Path(__file__).parent / "tatoeba_en_grammar"
NUM_ROWS = {"train": 20000, "validation": 500, "test": 1000}
SEED = 1
MIN_WORDS, MAX_WORDS = 4, 16
# Share of rows with so many errors, where the sentence has place for them.
ERRORS = {0: 0.3, 1: 0.4, 2: 0.3}

# Groups, of which each word is taken for another of its own; - is no word.
PREPOSITIONS = "in on at -, to for at -, of from -, with by, about of for -, for since during"
AGREEMENT = "is are, was were, has have, does do, isn't aren't, wasn't weren't, hasn't haven't, doesn't don't"
WORDS = """
much many, than then, their there, your you're, its it's, say tell, said told, make do, made did, making doing,
look see watch, good well, borrow lend, another other, too very, lose loose, few little, hard hardly, learn teach
"""
# Base, third person, past, participle, -ing form.
IRREGULAR_VERBS = """
be is was been being, begin begins began begun beginning, break breaks broke broken breaking,
bring brings brought brought bringing, buy buys bought bought buying, choose chooses chose chosen choosing,
come comes came come coming, drink drinks drank drunk drinking, drive drives drove driven driving,
eat eats ate eaten eating, feel feels felt felt feeling, find finds found found finding,
forget forgets forgot forgotten forgetting, get gets got gotten getting, give gives gave given giving,
go goes went gone going, hear hears heard heard hearing, keep keeps kept kept keeping, know knows knew known knowing,
leave leaves left left leaving, lose loses lost lost losing, make makes made made making, meet meets met met meeting,
pay pays paid paid paying, read reads read read reading, ride rides rode ridden riding, run runs ran run running,
say says said said saying, see sees saw seen seeing, sell sells sold sold selling, sing sings sang sung singing,
sit sits sat sat sitting, sleep sleeps slept slept sleeping, speak speaks spoke spoken speaking,
stand stands stood stood standing, swim swims swam swum swimming, take takes took taken taking,
teach teaches taught taught teaching, tell tells told told telling, think thinks thought thought thinking,
understand understands understood understood understanding, wear wears wore worn wearing, win wins won won winning,
write writes wrote written writing
"""
REGULAR_VERBS = (
    "agree answer arrive ask believe call change clean close cook dance die enjoy expect explain finish happen hate "
    "help hope invite learn like listen live look love move need open play promise rain remember remain seem show "
    "smile smoke start stay study talk travel try turn use visit wait walk want wash watch wish work worry"
)
BEFORE_BASE = (
    "to can can't could couldn't will won't would wouldn't should shouldn't must may might did didn't do don't does "
    "doesn't let's please I'll you'll he'll she'll we'll they'll"
)
BEFORE_ING = "is are was were am been I'm you're he's she's we're they're isn't aren't wasn't weren't"
BEFORE_PARTICIPLE = "have has had haven't hasn't hadn't I've you've we've they've"
COUNTS = "two three four five six seven eight nine ten many several few these those"
SUBJECT_OF = {"me": "I", "him": "he", "her": "she", "us": "we", "them": "they"}
BEFORE_NO_ARTICLE = "to in at from for after before have had speak speaks learn study studying live lives"
WITHOUT_ARTICLE = "Boston Australia Japan Germany French English school bed breakfast lunch dinner"


class Rule(NamedTuple):
    """What a pattern finds is replaced by one of the texts that a function makes of the match."""

    pattern: re.Pattern[str]
    texts: Callable[[re.Match[str]], list[str]]


def any_of(words: str) -> str:
    """A pattern for one of these words, whole."""
    return rf"(?<![\w'])({'|'.join(map(re.escape, words.split()))})(?![\w'])"


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, capitals or not."""
    return re.compile(pattern, re.IGNORECASE)


def confusions(groups: str) -> Rule:
    """Each word becomes another of one of its groups, and with - none."""
    others: dict[str, list[str]] = {}
    for group in map(str.split, groups.split(",")):
        for word in group:
            others.setdefault(word, []).extend(other for other in group if other != word)
    words = [word for word in others if word != "-"]
    return Rule(
        compiled(rf"{any_of(' '.join(words))} "),
        lambda match: ["" if other == "-" else f"{other} " for other in others[match[1].lower()]],
    )


def regular_forms(base: str) -> str:
    """Base, third person, past, participle and -ing form of a regular verb."""
    if base.endswith("y") and base[-2] not in "aeo":
        third, past = f"{base[:-1]}ies", f"{base[:-1]}ied"
    else:
        third = f"{base}es" if base.endswith(("ch", "sh", "ss")) else f"{base}s"
        past = f"{base}d" if base.endswith("e") else f"{base}ed"
    silent = base.endswith("e") and not base.endswith("ee")
    ing = "dying" if base == "die" else f"{base[:-1] if silent else base}ing"
    return f"{base} {third} {past} {past} {ing}"


VERBS = [forms.split() for forms in IRREGULAR_VERBS.split(",")]
VERBS += [regular_forms(base).split() for base in REGULAR_VERBS.split()]


def wrong_forms(before: str, right: int, *wrong: int) -> Rule:
    """After one of these words, the `right` form of a verb becomes a `wrong` one; forms count from 0."""
    forms = {verb[right]: sorted({verb[form] for form in wrong} - {verb[right]}) for verb in VERBS}
    return Rule(
        compiled(f"{any_of(before)} {any_of(' '.join(forms))}"),
        lambda match: [f"{match[1]} {form}" for form in forms[match[2].lower()]],
    )


def plural(noun: str) -> str:
    """A noun's regular plural."""
    if noun.endswith("y") and noun[-2] not in "aeou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("ch", "sh", "x")) else f"{noun}s"


def swapped(match: re.Match[str]) -> list[str]:
    """The last two words of a match in the other order."""
    return [f"{match[0][: match.start(2) - match.start()]}{match[3]} {match[2]}"]


RULES = {
    "article": [
        Rule(compiled(f"{any_of('a an the')} "), lambda match: [""]),
        Rule(compiled(any_of("a an")), lambda match: ["an" if match[1].lower() == "a" else "a"]),
        Rule(
            compiled(f"{any_of(BEFORE_NO_ARTICLE)} {any_of(WITHOUT_ARTICLE)}"),
            lambda match: [f"{match[1]} the {match[2]}"],
        ),
    ],
    "preposition": [confusions(PREPOSITIONS)],
    "agreement": [
        confusions(AGREEMENT),
        wrong_forms("he she it Tom Mary everyone", 1, 0),
        wrong_forms("I you we they", 0, 1),
    ],
    "verb form": [
        wrong_forms(BEFORE_BASE, 0, 1, 2, 4),
        wrong_forms(BEFORE_ING, 4, 0),
        wrong_forms(BEFORE_PARTICIPLE, 3, 0, 2),
    ],
    "number": [
        Rule(compiled(rf"{any_of(COUNTS)} (\w{{2,}}[^su\W])s\b"), lambda match: [f"{match[1]} {match[2]}"]),
        Rule(
            compiled(rf"{any_of('every each another')} (\w{{2,}}[^s\W])\b"),
            lambda match: [f"{match[1]} {plural(match[2])}"],
        ),
    ],
    "pronoun": [
        Rule(
            compiled(rf"(?<=\w ){any_of(' '.join(SUBJECT_OF))}(?! \w)"), lambda match: [SUBJECT_OF[match[1].lower()]]
        ),
    ],
    "order": [
        Rule(
            compiled(
                f"{any_of('what where when why how')} {any_of('is are was were do does did can will should have')} "
                f"{any_of('you he she it they we I this that')}"
            ),
            swapped,
        ),
        Rule(
            compiled(
                f"{any_of('what where who how')} {any_of('he she it they you this that')} {any_of('is are was were')}"
            ),
            swapped,
        ),
        Rule(compiled(r"(\w )(always|never|often|usually|already|also|really|still|just) ([a-z]+)\b"), swapped),
    ],
    "word": [confusions(WORDS)],
}


class Error(NamedTuple):
    """What stands from `start` to before `end` of a sentence becomes `text`."""

    start: int
    end: int
    text: str


def errors_of(kind: str, sentence: str) -> list[Error]:
    """Every error of a kind that a sentence has place for."""
    return [
        Error(match.start(), match.end(), text)
        for rule in RULES[kind]
        for match in rule.pattern.finditer(sentence)
        for text in rule.texts(match)
    ]


def put_errors(sentence: str, errors: Iterable[Error]) -> str:
    """The sentence with errors that do not overlap, its first letter a capital as before."""
    for error in sorted(errors, reverse=True):
        sentence = f"{sentence[: error.start]}{error.text}{sentence[error.end :]}"
    return sentence[:1].upper() + sentence[1:]


def with_errors(sentence: str, num_errors: int, randomness: random.Random) -> str:
    """
    A sentence with so many errors of different kinds, or as many as there is place for.

    Args:
        sentence: A correct one.
        num_errors: How many.
        randomness: Draws the order in which kinds are tried, and one of the errors of each.
    """
    chosen: list[Error] = []
    for kind in randomness.sample(list(RULES), len(RULES)):
        found = [
            error
            for error in errors_of(kind, sentence)
            if all(error.end <= other.start or other.end <= error.start for other in chosen)
        ]
        if found and len(chosen) < num_errors:
            chosen.append(randomness.choice(found))
    return put_errors(sentence, chosen)


def sentences(path: Path) -> list[str]:
    """The distinct English sentences of a split that have place for an error, in its order."""
    found = dict.fromkeys(row["translation"]["en"] for row in read_split(path))
    return [
        sentence
        for sentence in found
        if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS and any(errors_of(kind, sentence) for kind in RULES)
    ]


def rows(found: list[str], count: int, seen: set[str], randomness: random.Random) -> Iterator[dict[str, str]]:
    """So many rows of sentences drawn from those found; none has a side in `seen`, which grows by both of each."""
    made = 0
    for target in randomness.sample(found, len(found)):
        (num_errors,) = randomness.choices(list(ERRORS), list(ERRORS.values()))
        source = with_errors(target, num_errors, randomness)
        if made < count and not {source.lower(), target.lower()} & seen:
            seen |= {source.lower(), target.lower()}
            made += 1
            yield {"source": source, "target": target}


def main() -> None:
    """Write all splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation,test}.jsonl.gz of Tatoeba en-de")
    source = parser.parse_args().source
    seen: set[str] = set()
    randomness = random.Random(SEED)
    # First the small splits: training takes what they leave.
    for name in ("test", "validation", "train"):
        write_split(OUTPUT, name, rows(sentences(source / f"{name}.jsonl.gz"), NUM_ROWS[name], seen, randomness))


if __name__ == "__main__":
    main()
