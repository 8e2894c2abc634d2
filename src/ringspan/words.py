"""Whether a text is words, as people name things, or looks drawn by chance: by which letters follow which."""

from __future__ import annotations

import itertools
import re
from string import ascii_lowercase

# What follows a, b, c and so on in more than a few English words: two thirds of all pairs; of eight letters drawn by
# chance less than a tenth have only such.
FOLLOWS = (
    "abcdefghijklmnoprstuvwxyz abcdefghijlmnoprstuy abcdefghiklmnoprstuvwy abcdefghijklmnoprstuvwy"
    " abcdefghijklmnopqrstuvwxyz acdefiklmnoprstuy abcdefghilmnoprstuy abcdeilmnoprstuwy abcdefgiklmnopqrstuvxz"
    " aeiosu adefgilnoprstuwy abcdefgiklmnoprstuvy abcdefgiklmnoprstuy abcdefghijklmnopqrstuvwyz"
    " abcdefghijklmnoprstuvwxyz abcdefghiklmnoprstuwxy lstu abcdefghiklmnoprstuvwy abcdefghiklmnopqrstuvwy"
    " abcdefghiklmnoprstuvwxyz abcdefgiklmnoprstx acdeimnos acdehilnors abcdeilmopstx abcdefgilmnoprst aeio"
)
PAIRS = frozenset(one + other for one, after in zip(ascii_lowercase, FOLLOWS.split(), strict=True) for other in after)
ODD = re.compile(r"[^aeiouy]{6}|[aeiouy]{5}|^[^aeiouy]{5,}$")
WORD_MAX, SHORT_MAX = 24, 4  # the shortest, such as css and jwks, may have any letters
JOINTS = re.compile(r"[-_.,~+\s]")
HUMPED = re.compile(r"[A-Z]?[a-z]+(?:[A-Z][a-z]+)*")  # camelCase
SMALL = re.compile(r"v?\d{1,3}|2fa|oauth2|mp[34]")
DIGITS_MAX = 3  # of all its parts: 123-456 is a code
HUMPS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
LETTERS = re.compile(r"[A-Za-z]+")
DRAWN_MIN, MIXED_MIN, HUMP_MIN = 8, 6, 2.5


def are_words(text: str) -> bool:
    """Whether a text is plainly a word or words, joined by - or _ or as in camelCase, with a small number at most."""
    return sum(map(str.isdigit, text)) <= DIGITS_MAX and all(map(_is_part, JOINTS.split(text)))


def _is_part(part: str) -> bool:
    if not part.isascii():
        return part.isalpha()  # what is drawn is ASCII
    if not part or SMALL.fullmatch(part) or (len(part) <= SHORT_MAX and part.isalpha() and part.islower()):
        return True
    return bool(HUMPED.fullmatch(part)) and all(map(_is_word, HUMPS.findall(part)))


def _is_word(text: str) -> bool:
    text = text.lower()
    return (
        len(text) <= WORD_MAX
        and not ODD.search(text)
        and all(map(PAIRS.__contains__, map("".join, itertools.pairwise(text))))
    )


def are_drawn(text: str) -> bool:
    """Whether letters of a text look drawn by chance: less strict, since names of things are abbreviated too."""
    return any(map(_is_drawn, LETTERS.findall(text)))


def _is_drawn(letters: str) -> bool:
    if letters.islower() or letters.isupper():
        return len(letters) >= DRAWN_MIN and bool(ODD.search(letters.lower()))
    humps = HUMPS.findall(letters)
    if len(letters) < MIXED_MIN or len(humps) == 1:
        return False
    return len(letters) < HUMP_MIN * len(humps) or not all(one.isupper() or _is_word(one) for one in humps)
