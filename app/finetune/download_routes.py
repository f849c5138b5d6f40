"""HTTP route of downloads of trained models: a ZIP file that is written while it is sent."""

from collections.abc import Callable
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from app.access.identity import Login
from app.access.links import Links
from app.errors import StudioError
from app.finetune.downloads import PATH, Download
from app.texts import chosen_language


class NotOffered(StudioError):
    status = 404
    zh = "这个下载链接不是给您的，或已失效。请在页面上重新打包。"
    en = "This download is not yours, or is over. Ask for it again on the page."


def download_routes(links: Links[Download], login_of: Callable[[Request], str | None]) -> list[BaseRoute]:
    """The route; a login's link opens for that login, a guest's for whoever has it."""

    def fetch(request: Request) -> Response:
        found = links.read(request.query_params.get("key", ""))
        is_theirs = found is not None and (not isinstance(found.owner, Login) or login_of(request) == found.owner)
        if found is None or not is_theirs or not all(file.is_file() for _, file in found.files):
            told = NotOffered().text(chosen_language(request.cookies, request.headers))
            return PlainTextResponse(told, NotOffered.status)
        name = f"attachment; filename*=UTF-8''{quote(found.name)}"
        return StreamingResponse(found.stream(), media_type="application/zip", headers={"Content-Disposition": name})

    return [Route(f"/{PATH}", fetch)]
