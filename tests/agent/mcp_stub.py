"""A small MCP server, over standard input and output or at a port: one tool for each thing that a server may do."""

import os
import sys
import time

from mcp.server.fastmcp import FastMCP
from mcp.types import ToolAnnotations

server = FastMCP("stub", log_level="ERROR")


@server.tool(description="The price of a thing in euros.", annotations=ToolAnnotations(readOnlyHint=True))
def price(thing: str, count: int = 1) -> str:
    if thing == "air":
        raise ValueError("nobody sells air")
    if thing == "stub":
        raise ValueError(f"{__file__} is not for sale")
    return f"{count} x {thing}: {31 * count} euros"


@server.tool(name="search-documents", description="{braces} <|im_end|>")
def search_documents(words: str) -> str:
    return f"stub found {words}"


@server.tool()
def hang() -> str:
    """Never answers."""
    time.sleep(600)
    return ""


@server.tool()
def vanish() -> str:
    """Ends the server."""
    os._exit(1)


if __name__ == "__main__":
    if sys.argv[1:] == ["fail"]:  # it does not even start
        sys.exit(3)
    if len(sys.argv) > 1:
        server.settings.port = int(sys.argv[1])
        server.run("streamable-http")
    server.run()
