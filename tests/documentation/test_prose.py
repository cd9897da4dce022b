"""The English of README.md and docs/: short lines and short sentences, generated pages apart."""

import re
from statistics import median

import pytest

from tests.documentation.pages import GENERATED, PAGES, prose_lines, read, sentences, words

WRITTEN = [page for page in PAGES if page not in GENERATED]
MOST_COLUMNS, MOST_WORDS, MEDIAN_WORDS, README_BYTES = 100, 30, 14, 7_500


@pytest.mark.parametrize("page", WRITTEN)
def test_no_line_is_wide(page: str):
    plain = [re.sub(r"\]\([^)]*\)", "]", line) for line in prose_lines(read(page))]
    wide = [line for line in plain if len(line) > MOST_COLUMNS]
    assert not wide, wide


@pytest.mark.parametrize("page", WRITTEN)
def test_sentences_are_short(page: str):
    every = sentences(read(page))
    long = [sentence for sentence in every if words(sentence) > MOST_WORDS]
    assert not long, long
    middle = median(map(words, every))
    assert middle <= MEDIAN_WORDS, f"the median sentence has {middle} words"


def test_the_readme_is_small():
    assert len(read("README.md").encode()) <= README_BYTES


def test_sentences_and_words_are_counted_as_a_reader_counts_them():
    text = "# Title\n\nOne two `a b --c=d`. Three\nfour: five.\n\n- six [seven](http://x.y/a)\n"
    text += "- eight e.g. nine\n\n```\nnot this one\n```\n| nor | this |\n"
    assert [words(sentence) for sentence in sentences(text)] == [3, 3, 2, 3]
