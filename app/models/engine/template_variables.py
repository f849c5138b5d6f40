"""Free variables of a chat template (jinja): what it reads of what it is given, such as `tools`."""

import re

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser


class _Generation(Extension):
    """`{% generation %}` blocks, which transformers knows beside jinja's own: they mark the answers."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def free_variables(template: str) -> set[str]:
    """Of a template that cannot be parsed, all of its words: it may have statements that its own engine knows."""
    try:
        parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols", _Generation]).parse(template)
    except jinja2.TemplateError:
        return set(re.findall(r"\w+", template))
    return meta.find_undeclared_variables(parsed)
