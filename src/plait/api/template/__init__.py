"""The part of Go's text/template that `plait report -f FORMAT` needs. No `define`, `template`, `block`, no methods."""

from plait.api.template.evaluate import execute
from plait.api.template.nodes import Template, TemplateError
from plait.api.template.parser import parse

__all__ = ["Template", "TemplateError", "execute", "parse"]
