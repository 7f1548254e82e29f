"""Rust source as a list of tokens without comments: enough to count lines honestly, not enough to compile."""

import re
from collections import namedtuple

# kind: text, char, lifetime, word, number or mark. line and last: its first and last line, from 1. start and end: offsets.
Token = namedtuple("Token", "kind text line last start end")

TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>//[^\n]*)
  | (?P<block>/\*)
  | (?P<text>[bc]?r(?P<hashes>\#*)"(?s:.*?)"(?P=hashes) | [bc]?"(?s:[^"\\]|\\.)*")
  | (?P<char>b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x..|.))')
  | (?P<lifetime>'\w+)
  | (?P<word>(?:r\#)?[^\W\d]\w*)
  | (?P<number>\d\w*)
  | (?P<mark>.)
    """,
    re.VERBOSE,
)
COMMENT_EDGE = re.compile(r"/\*|\*/")


def tokens(source):
    """All tokens of `source`, comments of every kind left out."""
    found, at, line = [], 0, 1
    while at < len(source):
        match = TOKEN.match(source, at)
        kind, end = match.lastgroup, match.end()
        if kind == "block":
            end = end_of_block_comment(source, end)
        text = source[at:end]
        last = line + text.count("\n")
        if kind not in ("space", "comment", "block"):
            # r#name is the same name as name.
            text = text.removeprefix("r#") if kind == "word" else text
            found.append(Token(kind, text, line, last, at, end))
        at, line = end, last
    return found


def end_of_block_comment(source, at):
    """Block comments nest in Rust."""
    depth = 1
    while depth:
        edge = COMMENT_EDGE.search(source, at)
        if edge is None:
            return len(source)
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at


def code_lines(found):
    """The numbers of the lines that hold code; blank lines inside a text do not count."""
    lines = set()
    for token in found:
        for offset, part in enumerate(token.text.split("\n")):
            if part.strip():
                lines.add(token.line + offset)
    return lines
