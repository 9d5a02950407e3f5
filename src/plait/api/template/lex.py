"""Cuts the text of a template into tokens. Says what is wrong with the spelling; knows nothing of the grammar."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import NoReturn

from plait.api.template.nodes import TemplateError

KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"})


class Kind(Enum):
    """What a token is."""

    TEXT = auto()
    OPEN = auto()
    CLOSE = auto()
    SPACE = auto()
    NAME = auto()
    KEYWORD = auto()
    BOOL = auto()
    FIELD = auto()
    VARIABLE = auto()
    STRING = auto()
    RAW_STRING = auto()
    CHARACTER = auto()
    NUMBER = auto()
    DOT = auto()
    PUNCTUATION = auto()
    EOF = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A token with its offset in the text and its line (from 1)."""

    kind: Kind
    text: str
    pos: int
    line: int


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a template, EOF last. Raises TemplateError at the first that is misspelt."""
    return _Lexer(text).run()


def fail(line: int, message: str) -> NoReturn:
    """Raise the error of a line."""
    raise TemplateError(f"template: format:{line}: {message}")


_SPACE = " \t\r\n"
_COMMENT = re.compile(r"\{\{(?P<left>-[ \t\r\n]+)?/\*.*?\*/(?P<right>[ \t\r\n]+-)?\}\}", re.DOTALL)
_COMMENT_START = re.compile(r"\{\{(?:-[ \t\r\n]+)?/\*")
_CLOSE = re.compile(r"(?P<trim>[ \t\r\n]-)?\}\}")
_PARTS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.SPACE, re.compile(r"(?:[ \t\r\n](?!-\}\}))+")),
    (Kind.PUNCTUATION, re.compile(r":=|[=|(),]")),
    (Kind.STRING, re.compile(r'"(?:\\.|[^"\\\n])*"')),
    (Kind.RAW_STRING, re.compile(r"`[^`]*`")),
    (Kind.CHARACTER, re.compile(r"'(?:\\.|[^'\\\n])*'")),
    (Kind.NUMBER, re.compile(r"[+-]?(?:\.?[0-9])(?:[eEpP][+-](?=[0-9])|[\w.])*")),
    (Kind.VARIABLE, re.compile(r"\$\w*")),
    (Kind.FIELD, re.compile(r"\.\w+")),
    (Kind.DOT, re.compile(r"\.")),
    (Kind.NAME, re.compile(r"\w+")),
)
_WORDS = frozenset({Kind.VARIABLE, Kind.FIELD, Kind.NAME})
_UNTERMINATED = {
    '"': "unterminated quoted string",
    "`": "unterminated raw quoted string",
    "'": "unterminated character constant",
    ":": "expected :=",
}


class _Lexer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._line = 1
        self._opened = 1
        self._trim = False

    def run(self) -> Iterator[Token]:
        while True:
            start = self._text.find("{{", self._pos)
            yield from self._plain(start if start >= 0 else len(self._text), start >= 0)
            if start < 0:
                break
            if _COMMENT_START.match(self._text, self._pos):
                self._comment()
            else:
                yield from self._action()
        yield self._take(Kind.EOF, 0)

    def _take(self, kind: Kind, length: int) -> Token:
        token = Token(kind, self._text[self._pos : self._pos + length], self._pos, self._line)
        self._pos += length
        self._line += token.text.count("\n")
        return token

    def _plain(self, end: int, action_follows: bool) -> Iterator[Token]:
        token = self._take(Kind.TEXT, end - self._pos)
        text = token.text.lstrip(_SPACE) if self._trim else token.text
        self._trim = False
        if action_follows and self._trims_left(end):
            text = text.rstrip(_SPACE)
        if text:
            yield Token(Kind.TEXT, text, token.pos, token.line)

    def _trims_left(self, pos: int) -> bool:
        return self._text[pos + 2 : pos + 3] == "-" and self._text[pos + 3 : pos + 4] in (" ", "\t", "\r", "\n")

    def _comment(self) -> None:
        match = _COMMENT.match(self._text, self._pos)
        if match is None:
            end = self._text.find("*/", self._pos)
            fail(self._line, "unclosed comment" if end < 0 else "comment ends before closing delimiter")
        if match["left"] is None and "*/" in match[0][4:-4]:
            fail(self._line, "comment ends before closing delimiter")
        self._trim = match["right"] is not None
        self._take(Kind.TEXT, len(match[0]))

    def _action(self) -> Iterator[Token]:
        trims = self._trims_left(self._pos)
        self._opened = self._line
        yield self._take(Kind.OPEN, 2)
        self._take(Kind.SPACE, 2 if trims else 0)
        depth = 0
        while (close := _CLOSE.match(self._text, self._pos)) is None:
            token = self._part()
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if depth < 0:
                fail(token.line, "unexpected right paren")
            yield token
        if depth:
            fail(self._line, "unclosed left paren")
        self._trim = close["trim"] is not None
        yield self._take(Kind.CLOSE, len(close[0]))

    def _part(self) -> Token:
        if self._pos == len(self._text):
            started = f" started at format:{self._opened}" if self._opened != self._line else ""
            fail(self._line, f"unclosed action{started}")
        for kind, pattern in _PARTS:
            if match := pattern.match(self._text, self._pos):
                token = self._take(kind, len(match[0]))
                return self._word(token) if kind in _WORDS else token
        character = self._text[self._pos]
        fail(self._line, _UNTERMINATED.get(character, f"unrecognized character in action: {_named(character)}"))

    def _word(self, token: Token) -> Token:
        following = self._text[self._pos : self._pos + 1]
        if following and following not in " \t\r\n.,|:()=" and not self._text.startswith("}}", self._pos):
            fail(token.line, f"bad character {_named(following)}")
        if token.kind is not Kind.NAME:
            return token
        if token.text in ("true", "false"):
            return Token(Kind.BOOL, token.text, token.pos, token.line)
        return Token(Kind.KEYWORD, token.text, token.pos, token.line) if token.text in KEYWORDS else token


def _named(character: str) -> str:
    return f"U+{ord(character):04X}" + (f" '{character}'" if character.isprintable() else "")
