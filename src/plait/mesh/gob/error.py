"""The one error of gob decoding and encoding."""

from plait.errors import PlaitError


class GobError(PlaitError):
    """Bytes that are no acceptable gob, or a value that gob cannot carry.

    `offset` is the byte where decoding stopped (-1 when encoding), `field` the dotted path of the field, "" outside.
    """

    def __init__(self, problem: str, offset: int = -1, field: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset
        self.field = field

    def add_field(self, name: str) -> None:
        """Put the name of the enclosing field in front of the path."""
        self.field = f"{name}.{self.field}" if self.field else name

    def __str__(self) -> str:
        where = f" of {self.field}" if self.field else ""
        if self.offset < 0:
            return f"gob value{where} cannot be encoded: {self.problem}"
        return (
            f"gob value{where} cannot be decoded at byte {self.offset}: {self.problem}; "
            "the sender is damaged or speaks another protocol"
        )
