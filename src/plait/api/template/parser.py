"""Builds the tree of a template from its tokens. Does not look at data."""

from collections.abc import Callable

from plait.api.template.functions import NAMES
from plait.api.template.lex import Kind, Token, fail, tokens
from plait.api.template.literals import character, number, quote, unquote
from plait.api.template.nodes import (
    Action,
    Branch,
    Chain,
    Command,
    Dot,
    Field,
    Function,
    Jump,
    Literal,
    Node,
    Operand,
    Pipeline,
    Template,
    Text,
    Variable,
)

MAX_LENGTH = 65536
"""Characters of a template: far more than a command line's argument needs, little enough to parse in no time."""
MAX_DEPTH = 32
"""Nested blocks and parentheses: keeps the parser and the evaluator far from Python's own recursion limit."""
MAX_VARIABLES = 100
"""Variables in scope, which are looked up one by one."""


def parse(text: str) -> Template:
    """Parse a template. Raises TemplateError in the words of Go's parser: `template: format:1: unclosed action`."""
    if len(text) > MAX_LENGTH:
        fail(1, f"the template is longer than {MAX_LENGTH} characters")
    return Template(text, _Parser(text).parse())


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._token = next(self._tokens)
        self._variables = ["$"]
        self._depth = 0
        self._ranges = 0

    def parse(self) -> list[Node]:
        body, closing = self._body()
        if closing.kind is not Kind.EOF:
            fail(closing.line, f"unexpected {{{{{closing.text}}}}}")
        return body

    def _next(self) -> Token:
        token = self._token
        if token.kind is not Kind.EOF:
            self._token = next(self._tokens)
        return token

    def _skip_space(self) -> Token:
        while self._token.kind is Kind.SPACE:
            self._next()
        return self._token

    def _is(self, text: str) -> bool:
        return self._token.kind in (Kind.PUNCTUATION, Kind.KEYWORD) and self._token.text == text

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            fail(self._token.line, f"blocks and parentheses are nested deeper than {MAX_DEPTH}")

    def _body(self) -> tuple[list[Node], Token]:
        """The nodes up to the `end`, `else` (whose keyword is taken, not its close) or EOF that is returned."""
        nodes: list[Node] = []
        while True:
            token = self._next()
            if token.kind is Kind.TEXT:
                nodes.append(Text(token.text))
            elif token.kind is Kind.EOF:
                return nodes, token
            else:
                keyword = self._skip_space()
                if keyword.kind is Kind.KEYWORD and keyword.text in ("end", "else"):
                    return nodes, self._next()
                nodes.append(self._action())

    def _action(self) -> Node:
        token = self._token
        if token.kind is Kind.KEYWORD and token.text != "nil":
            self._next()
            if token.text in ("if", "with", "range"):
                return self._branch(token)
            if token.text in ("break", "continue"):
                return self._jump(token)
            fail(token.line, f"{{{{{token.text}}}}} is not supported in a report's format")
        return Action(token.pos, self._pipeline("command", self._at_close))

    def _jump(self, token: Token) -> Jump:
        self._close(token.text)
        if not self._ranges:
            fail(token.line, f"{{{{{token.text}}}}} outside {{{{range}}}}")
        return Jump(token.pos, token.text)

    def _branch(self, token: Token) -> Branch:
        self._enter()
        known = len(self._variables)
        looping = token.text == "range"
        pipeline = self._pipeline(token.text, self._at_close)
        self._ranges += looping
        body, closing = self._body()
        self._ranges -= looping
        otherwise: list[Node] = []
        if closing.text == "else" and closing.kind is Kind.KEYWORD:
            otherwise, closing = self._else(token.text)
        elif closing.kind is Kind.KEYWORD:
            self._close("end")
        if closing.kind is Kind.EOF:
            fail(closing.line, "unexpected EOF")
        del self._variables[known:]
        self._depth -= 1
        return Branch(token.pos, token.text, pipeline, body, otherwise)

    def _else(self, keyword: str) -> tuple[list[Node], Token]:
        """The body after an `else`, and its `end`; an `else if` is an `if` in it that shares the `end`."""
        following = self._skip_space()
        if following.kind is Kind.KEYWORD and following.text == keyword and keyword in ("if", "with"):
            self._next()
            return [self._branch(following)], Token(Kind.KEYWORD, "end", following.pos, following.line)
        self._close("else")
        body, closing = self._body()
        if closing.kind is Kind.KEYWORD and closing.text == "else":
            fail(closing.line, "expected end; found {{else}}")
        if closing.kind is Kind.KEYWORD:
            self._close("end")
        return body, closing

    def _close(self, context: str) -> None:
        token = self._skip_space()
        if token.kind is not Kind.CLOSE:
            _unexpected(token, f"in {context}" if context in ("else", "end") else f"in {{{{{context}}}}}")
        self._next()

    def _at_close(self) -> bool:
        return self._token.kind is Kind.CLOSE

    def _at_paren(self) -> bool:
        return self._is(")")

    def _pipeline(self, context: str, at_end: Callable[[], bool]) -> Pipeline:
        """A pipeline with the close or parenthesis that ends it."""
        start = self._skip_space()
        variables, assign, first = self._declaration(context)
        commands: list[Command] = []
        while True:
            self._skip_space()
            if first is None and at_end():
                break
            if not (first or self._starts_operand()):
                _unexpected(self._token, f"in {context}")
            commands.append(self._command(first))
            first = None
        self._check(commands, context)
        self._next()
        if not assign:
            self._variables.extend(variables)
        if len(self._variables) > MAX_VARIABLES:
            fail(start.line, f"more than {MAX_VARIABLES} variables")
        return Pipeline(start.pos, variables, assign, tuple(commands))

    def _check(self, commands: list[Command], context: str) -> None:
        if not commands:
            fail(self._token.line, f"missing value for {context}")
        for stage, command in enumerate(commands[1:], start=2):
            if isinstance(command.args[0], Literal | Dot):
                fail(self._token.line, f"non executable command in pipeline stage {stage}")

    def _declaration(self, context: str) -> tuple[tuple[str, ...], bool, Operand | None]:
        """The variables a pipeline goes to and whether they exist already; or the operand that the `$x` was instead."""
        if self._token.kind is not Kind.VARIABLE:
            return (), False, None
        names = [self._next()]
        spaced = self._skip_space().pos > names[0].pos + len(names[0].text)
        if context == "range" and self._is(","):
            self._next()
            second = self._skip_space()
            if second.kind is not Kind.VARIABLE:
                _unexpected(second, "in range")
            names.append(self._next())
            self._skip_space()
        if self._is(":=") or self._is("="):
            return self._targets(names, self._next().text == "=")
        if len(names) > 1:
            _unexpected(self._token, "in range")
        return (), False, self._variable(names[0]) if spaced else self._fields(self._variable(names[0]))

    def _targets(self, names: list[Token], assign: bool) -> tuple[tuple[str, ...], bool, None]:
        if assign:
            for name in names:
                self._variable(name)
        return tuple(name.text for name in names), assign, None

    def _starts_operand(self) -> bool:
        return self._token.kind in _OPERANDS or self._is("(") or self._is("nil")

    def _command(self, first: Operand | None) -> Command:
        start = self._skip_space()
        args = [first] if first else []
        while True:
            self._skip_space()
            if self._starts_operand():
                args.append(self._fields(self._operand()))
            if self._token.kind is Kind.SPACE:
                continue
            if self._is("|"):
                self._next()
                if self._skip_space().kind is Kind.CLOSE or self._is(")"):
                    fail(self._token.line, "missing value for command")
            elif self._token.kind is not Kind.CLOSE and not self._is(")"):
                _unexpected(self._token, "in operand")
            break
        if not args:
            fail(self._token.line, "empty command")
        return Command(first.pos if first else start.pos, tuple(args))

    def _operand(self) -> Operand:
        token = self._next()
        match token.kind:
            case Kind.NAME:
                if token.text not in NAMES:
                    fail(token.line, f"function {quote(token.text)} not defined")
                return Function(token.pos, token.text)
            case Kind.DOT:
                return Dot(token.pos)
            case Kind.FIELD:
                return Field(token.pos, (token.text[1:],))
            case Kind.VARIABLE:
                return self._variable(token)
            case Kind.PUNCTUATION:
                self._enter()
                pipeline = self._pipeline("parenthesized pipeline", self._at_paren)
                self._depth -= 1
                return pipeline
            case _:
                return Literal(token.pos, _constant(token), token.text)

    def _variable(self, token: Token) -> Variable:
        if token.text not in self._variables:
            fail(token.line, f"undefined variable {quote(token.text)}")
        return Variable(token.pos, token.text)

    def _fields(self, base: Operand) -> Operand:
        """An operand with the fields that follow it without a space."""
        pos, line, names = self._token.pos, self._token.line, []
        while self._token.kind is Kind.FIELD:
            names.append(self._next().text[1:])
        if not names:
            return base
        match base:
            case Field():
                return Field(pos, (*base.names, *names))
            case Variable():
                return Variable(pos, base.name, tuple(names))
            case Pipeline():
                return Chain(pos, base, tuple(names))
            case _:
                fail(line, f"unexpected . after term {quote(str(base))}")


_CONSTANTS = (Kind.BOOL, Kind.STRING, Kind.RAW_STRING, Kind.CHARACTER, Kind.NUMBER)
_OPERANDS = frozenset({Kind.NAME, Kind.DOT, Kind.FIELD, Kind.VARIABLE, *_CONSTANTS})


def _constant(token: Token) -> str | int | float | bool | None:
    try:
        match token.kind:
            case Kind.BOOL:
                return token.text == "true"
            case Kind.STRING:
                return unquote(token.text[1:-1])
            case Kind.RAW_STRING:
                return token.text[1:-1].replace("\r", "")
            case Kind.CHARACTER:
                return character(token.text[1:-1])
            case Kind.NUMBER:
                return number(token.text)
            case _:
                return None
    except ValueError as problem:
        fail(token.line, str(problem))


def _unexpected(token: Token, context: str) -> None:
    shown = "EOF" if token.kind is Kind.EOF else quote(token.text)
    if token.kind is Kind.KEYWORD:
        shown = f"<{token.text}>"
    elif token.kind is Kind.CLOSE:
        shown = '"}}"'
    fail(token.line, f"unexpected {shown} {context}")
