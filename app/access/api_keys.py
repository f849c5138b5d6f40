"""API keys: a file of hashed keys by name, compared in constant time. The name is also the owner of tuned models."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from app.errors import SettingsError

HASHED = "sha256-"
SIGNED_IN = ("hf:", "sso:")  # what app/access/oauth.py puts before a name
FORM = "NAME:KEY, or a file with one such line each 名称:密钥，或每行一个的文件"


class ApiKeys:
    """Keys by name; only their hashes are kept."""

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = hashes

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def name_of(self, key: str) -> str | None:
        """Whose key it is. All are compared, so that time tells nothing."""
        given, found = hashed(key), None
        for name, kept in self._hashes.items():
            if hmac.compare_digest(kept, given):
                found = name
        return found


def read_keys(setting: str) -> ApiKeys:
    """`NAME:KEY` or a file of such lines, as `python -m app key` writes them. SettingsError never repeats a key."""
    if not setting:
        return ApiKeys({})
    path = Path(setting)
    is_file = len(setting) < 4096 and path.is_file()
    lines = path.read_text(encoding="utf-8").split("\n") if is_file else [setting]
    hashes: dict[str, str] = {}
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        name, key = _parts(line)
        if not name.strip() or not key.strip() or name.strip() in hashes:
            raise SettingsError(key="api_keys", value="…", allowed=FORM)
        hashes[name.strip()] = key.strip() if key.strip().startswith(HASHED) else hashed(key.strip())
    if not hashes:
        raise SettingsError(key="api_keys", value=path, allowed=FORM)
    return ApiKeys(hashes)


def add_key(file: Path, name: str) -> str:
    """Write a new key's hash to the file and return the key, which is kept nowhere else."""
    if not name or name.startswith("#") or ":" in _bare(name) or not name.isprintable():
        raise SettingsError(key="name", value=name, allowed="no colon, no line break 不能有冒号和换行")
    key = f"puyu-{secrets.token_urlsafe(32)}"
    old = file.read_text(encoding="utf-8").rstrip("\n").split("\n") if file.exists() else []
    lines = [line for line in old if _parts(line)[0].strip() != name]
    draft = file.with_name(file.name + ".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write("\n".join([*lines, f"{name}:{hashed(key)}", ""]))
    draft.replace(file)
    return key


def _parts(line: str) -> tuple[str, str]:
    """(name, key). The name of somebody who signs in elsewhere holds a colon itself: hf:ada."""
    bare = _bare(line)
    name, _, key = bare.partition(":")
    return line[: len(line) - len(bare)] + name, key


def _bare(name: str) -> str:
    return next((name.removeprefix(mark) for mark in SIGNED_IN if name.startswith(mark)), name)


def hashed(key: str) -> str:
    """A key is long and random, so a plain hash is as good as a slow one."""
    return HASHED + hashlib.sha256(key.encode()).hexdigest()
