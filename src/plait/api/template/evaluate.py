"""Executes a parsed template over data, within limits of output and work."""

from collections.abc import Iterable, Sequence

from plait.api.template.formatting import MAX_STRING, shown_alone
from plait.api.template.functions import FUNCTIONS, STOPPING
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
from plait.api.template.values import NIL, Failure, Nil, Record, Value, from_data, get, truth

MAX_STEPS = 500_000
"""Nodes and operands evaluated: nested ranges over a mesh of a hundred peers need a fifth of it."""
MAX_HANDLED = 16 * MAX_STRING
"""Characters that functions read and make in one execution, for the same reason."""


def execute(template: Template, data: object) -> tuple[str, str | None]:
    """The output of a template over plain data (dicts, lists, scalars; keys are Go's field names), and None or, when
    the execution failed after that output, the failure in the words of Go."""
    run = _Execution()
    try:
        dot = from_data(data)
        run.variables.append(("$", dot))
        run.body(template.body, dot)
    except Failure as failure:
        return "".join(run.output), _sentence(template.text, run.node, failure)
    return "".join(run.output), None


class _Jumped(Exception):
    def __init__(self, keyword: str) -> None:
        super().__init__(keyword)
        self.keyword = keyword


class _Execution:
    """`node` is what is being evaluated, for the message of a failure."""

    def __init__(self) -> None:
        self.output: list[str] = []
        self.variables: list[tuple[str, Value]] = []
        self.node: Operand | Command | Action | Branch | Jump | None = None
        self._room = MAX_STRING
        self._steps = MAX_STEPS
        self._handled = MAX_HANDLED

    def body(self, nodes: Sequence[Node], dot: Value) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self._write(node.text)
                continue
            self._at(node)
            match node:
                case Action(pipeline=pipeline):
                    value = self._pipeline(pipeline, dot)
                    if not pipeline.variables:
                        self._write(shown_alone(value))
                case Jump(keyword=keyword):
                    raise _Jumped(keyword)
                case Branch():
                    known = len(self.variables)
                    self._branch(node, dot)
                    del self.variables[known:]

    def _at(self, node: Operand | Command | Action | Branch | Jump) -> None:
        self.node = node
        self._steps -= 1
        if self._steps < 0:
            raise Failure(f"the template takes more than {MAX_STEPS} steps")

    def _write(self, text: str) -> None:
        if len(text) > self._room:
            raise Failure(f"the output is longer than {MAX_STRING} characters")
        self._room -= len(text)
        self.output.append(text)

    def _handle(self, values: Iterable[Value]) -> None:
        self._handled -= sum(len(value) for value in values if isinstance(value, str))
        if self._handled < 0:
            raise Failure(f"the functions handle more than {MAX_HANDLED} characters")

    def _branch(self, node: Branch, dot: Value) -> None:
        if node.keyword == "range":
            self._range(node, dot)
            return
        value = self._pipeline(node.pipeline, dot)
        if not truth(value):
            self.body(node.otherwise, dot)
        else:
            self.body(node.body, value if node.keyword == "with" else dot)

    def _range(self, node: Branch, dot: Value) -> None:
        names = node.pipeline.variables
        items = _items(self._pipeline(node.pipeline, dot, bind=False))
        known = len(self.variables)
        for key, item in items:
            values = (item,) if len(names) == 1 else (key, item)
            for name, value in zip(names, values, strict=False):
                self._bind(name, value, node.pipeline.assign)
            try:
                self._at(node)
                self.body(node.body, item)
            except _Jumped as jump:
                if jump.keyword == "break":
                    break
            finally:
                del self.variables[known:]
        if not items:
            self.body(node.otherwise, dot)

    def _bind(self, name: str, value: Value, assign: bool) -> None:
        if not assign:
            self.variables.append((name, value))
            return
        self.variables[self._slot(name)] = (name, value)

    def _slot(self, name: str) -> int:
        for slot in range(len(self.variables) - 1, -1, -1):
            if self.variables[slot][0] == name:
                return slot
        raise Failure(f"undefined variable: {name}")

    def _pipeline(self, node: Pipeline, dot: Value, bind: bool = True) -> Value:
        value: Value | None = None
        for command in node.commands:
            value = self._command(command, dot, value)
        result = NIL if value is None else value
        if bind:
            for name in node.variables:
                self._bind(name, result, node.assign)
        return result

    def _command(self, node: Command, dot: Value, final: Value | None) -> Value:
        first = node.args[0]
        if isinstance(first, Function):
            return self._call(node, first, dot, final)
        self._at(first)
        if isinstance(first, Literal) and first.value is None:
            raise Failure("nil is not a command")
        given = len(node.args) > 1 or final is not None
        names = first.names if isinstance(first, Field | Variable | Chain) else ()
        if given and not names:
            raise Failure(f"can't give argument to non-function {first}")
        value = self._operand(first, dot)
        if given:
            raise Failure(f"{names[-1]} has arguments but cannot be invoked as function")
        return value

    def _call(self, node: Command, function: Function, dot: Value, final: Value | None) -> Value:
        self._at(function)
        stops = function.name in STOPPING
        entry = STOPPING[function.name] if stops else FUNCTIONS[function.name]
        entry.check(function.name, len(node.args) - 1 + (final is not None))
        values: list[Value] = []
        for arg in node.args[1:]:
            values.append(self._operand(arg, dot))
            if stops and truth(values[-1]) is (function.name == "or"):
                return values[-1]
        if final is not None:
            values.append(final)
        self._at(node)
        self._handle(values)
        try:
            result = entry.call(values)
        except Failure as failure:
            raise Failure(f"error calling {function.name}: {failure}") from failure
        self._handle([result])
        return result

    def _operand(self, node: Operand, dot: Value) -> Value:
        self._at(node)
        match node:
            case Dot():
                return dot
            case Literal(value=value):
                return NIL if value is None else value
            case Field(names=names):
                return self._fields(node, dot, names)
            case Variable(name=name, names=names):
                return self._fields(node, self.variables[self._slot(name)][1], names)
            case Chain(base=base, names=names):
                return self._fields(node, self._pipeline(base, dot), names)
            case Pipeline():
                return self._pipeline(node, dot)
            case Function():
                return self._call(Command(node.pos, (node,)), node, dot, None)

    def _fields(self, node: Operand, value: Value, names: Sequence[str]) -> Value:
        self._at(node)
        for name in names:
            value = get(value, name)
        return value


def _items(value: Value) -> list[tuple[Value, Value]]:
    match value:
        case list():
            return list(enumerate(value))
        case Record():
            return [(name, value.fields[name]) for name in sorted(value.fields)]
        case Nil() if value.text != "<nil>":
            return []
        case _:
            raise Failure(f"range can't iterate over {shown_alone(value)}")


def _sentence(text: str, node: Operand | Command | Action | Branch | Jump | None, failure: Failure) -> str:
    """The failure with the node's line, its column in bytes from 0, and its text."""
    if node is None:
        return f'template: format:1:0: executing "format": {failure}'
    before = text[: node.pos]
    column = len(before[before.rfind("\n") + 1 :].encode(errors="replace"))
    return f'template: format:{before.count(chr(10)) + 1}:{column}: executing "format" at <{node}>: {failure}'
