# SPDX-License-Identifier: BSD-2-Clause
"""csource - a C file without what is not code; for the checks beside it."""

import glob
import re

TOKEN = re.compile(r'''/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"'''
                   r"""|'(?:\\.|[^'\\\n])*'""", re.S)


def blank(text):
    """Same number of lines, nothing in them."""
    return re.sub(r'[^\n]', ' ', text)


def without_comments_and_strings(text):
    """Every offset and line number stays what it was."""
    return TOKEN.sub(lambda match: blank(match[0]), text)


def without_preprocessor(code):
    """Directives, with their continuation lines, become blank, too."""
    return re.sub(r'^[ \t]*#(?:[^\n]*\\\n)*[^\n]*',
                  lambda match: blank(match[0]), code, flags=re.M)


def line_of(text, offset):
    return text.count('\n', 0, offset) + 1


def files(*patterns):
    found = []
    for pattern in patterns:
        found += glob.glob(pattern, recursive=True)
    return sorted(set(found))


def read(path):
    with open(path, encoding='utf-8') as source:
        return source.read()
