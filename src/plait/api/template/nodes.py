"""The tree of a parsed template, and the error of a text that is none. `str(node)` is the node as messages show it."""

from collections.abc import Sequence
from dataclasses import dataclass

from plait.errors import PlaitError


class TemplateError(PlaitError):
    """The text is not a template; the sentence is in the style of Go's parser."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is printed as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: string, number, boolean or nil, with its spelling. `pos` is an offset in the template, as everywhere
    below."""

    pos: int
    value: str | int | float | bool | None
    source: str

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True)
class Dot:
    """The cursor."""

    pos: int

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Field:
    """`.A.B`."""

    pos: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join("." + name for name in self.names)


@dataclass(frozen=True, slots=True)
class Variable:
    """`$`, `$x` or `$x.A.B`; `name` has the dollar."""

    pos: int
    name: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


@dataclass(frozen=True, slots=True)
class Function:
    """The name of a function."""

    pos: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).A.B`."""

    pos: int
    base: "Pipeline"
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"({self.base})" + "".join("." + name for name in self.names)


@dataclass(frozen=True, slots=True)
class Command:
    """An operand, or a function with its arguments."""

    pos: int
    args: tuple["Operand", ...]

    def __str__(self) -> str:
        return " ".join(f"({arg})" if isinstance(arg, Pipeline) else str(arg) for arg in self.args)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each of which gets the value before it as its last argument, and the variables the result goes to."""

    pos: int
    variables: tuple[str, ...]
    assign: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        sign = " = " if self.assign else " := "
        target = ", ".join(self.variables) + sign if self.variables else ""
        return target + " | ".join(map(str, self.commands))


@dataclass(frozen=True, slots=True)
class Action:
    """`{{pipeline}}`."""

    pos: int
    pipeline: Pipeline

    def __str__(self) -> str:
        return "{{" + str(self.pipeline) + "}}"


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range` (`keyword`) with its two bodies."""

    pos: int
    keyword: str
    pipeline: Pipeline
    body: Sequence["Node"]
    otherwise: Sequence["Node"]

    def __str__(self) -> str:
        return "{{" + f"{self.keyword} {self.pipeline}" + "}}"


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue` (`keyword`)."""

    pos: int
    keyword: str

    def __str__(self) -> str:
        return "{{" + self.keyword + "}}"


Operand = Literal | Dot | Field | Variable | Function | Chain | Pipeline
Node = Text | Action | Branch | Jump


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template; `text` is its source, by which messages find line and column."""

    text: str
    body: Sequence[Node]
