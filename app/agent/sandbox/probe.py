"""Self-test of the sandbox at start: lock a child, attack it, choose the mode (files, no files, off)."""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.errors import StudioError
from app.lockdown.kernel import SUPPORTED_MACHINES, machine

if TYPE_CHECKING:  # host.py imports what only Linux has
    from app.agent.sandbox.host import Sandbox

Mode = Literal["files", "no files", "off"]


class SandboxUnavailable(StudioError):
    zh = (
        "代码沙箱在这台机器上不可用：{reason_zh}。为了安全，智能体页面已关闭；"
        "请在 Linux（x86_64 或 aarch64，内核支持 seccomp，5.13 以上更好）上运行，并在容器里使用默认的 seccomp 规则。"
    )
    en = (
        "The code sandbox is not available on this machine: {reason_en}. The agent is switched off to stay safe;"
        " run the server on Linux (x86_64 or aarch64, with seccomp; 5.13 or newer is better),"
        " in a container with its default seccomp rules."
    )


@dataclass(frozen=True)
class Attack:
    """One thing a stranger might try, and whether it was held off."""

    name: str
    held: bool
    saw: str


@dataclass(frozen=True)
class Finding:
    """What the probe saw. `reason_zh` and `reason_en` say why something is missing."""

    mode: Mode
    attacks: tuple[Attack, ...] = ()
    reason_zh: str = ""
    reason_en: str = ""

    def unavailable(self) -> SandboxUnavailable:
        return SandboxUnavailable(reason_zh=self.reason_zh, reason_en=self.reason_en)

    def lines(self) -> Iterator[str]:
        """For `doctor`: one line for the mode, one for each attack."""
        names = {"files": "on", "no files": "on, without files", "off": "off"}
        yield f"sandbox: {names[self.mode]}" + (f" ({self.reason_en})" if self.reason_en else "")
        for attack in self.attacks:
            yield f"  {'ok' if attack.held else 'NOT OK'}: {attack.name} ({attack.saw})"


def probe(folder: Path | None = None) -> Finding:
    """Try the sandbox with files, then without; the best mode in which every attack is held off."""
    if sys.platform != "linux":
        return Finding("off", (), f"需要 Linux，这里是 {sys.platform}", f"it needs Linux, this is {sys.platform}")
    if machine() not in SUPPORTED_MACHINES:
        name = machine()
        return Finding("off", (), f"不支持的处理器 {name}", f"the processor {name} is not supported")
    with tempfile.TemporaryDirectory() as own:
        place = folder or Path(own)
        place.chmod(0o755)
        first = _try_mode(place, with_files=True)
        if first.mode != "off":
            return first
        second = _try_mode(place, with_files=False)
        return second if second.mode == "off" else _without_files(first, second)


def _without_files(first: Finding, second: Finding) -> Finding:
    return Finding("no files", second.attacks, first.reason_zh, first.reason_en)


def _try_mode(folder: Path, with_files: bool) -> Finding:
    from app.agent.sandbox.host import Sandbox, SandboxError  # only Linux can

    sandbox = Sandbox(folder, with_files=with_files, bare=True)
    try:
        with tempfile.NamedTemporaryFile() as secret:
            secret.write(b"secret")
            secret.flush()
            Path(secret.name).chmod(0o644)
            attacks = tuple(_attack(sandbox, Path(secret.name)))
    except (SandboxError, OSError) as error:
        return Finding("off", (), f"内核拒绝：{error}", f"the kernel refused: {error}")
    finally:
        sandbox.close()
    through = [attack.name for attack in attacks if not attack.held]
    if through:
        names = ", ".join(through)
        return Finding("off", attacks, f"攻击成功：{names}", f"attacks got through: {names}")
    return Finding("files" if with_files else "no files", attacks)


def _attack(sandbox: "Sandbox", secret: Path) -> Iterator[Attack]:
    session = sandbox.open()
    try:
        alive = session.run("40 + 2")
        yield Attack("harmless code runs", alive.value == "42", alive.value or alive.error[-80:])
        for name, code in _attempts(secret).items():
            result = session.run(code)
            saw = result.value or (result.error.splitlines() or [result.ending])[-1]
            yield Attack(name, result.value == "" and result.ending in ("failed", "died"), saw[:80])
    finally:
        session.close()


def _attempts(secret: Path) -> dict[str, str]:
    """Each gives a value only if it got through."""
    libc = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
    refused = "\nassert result >= 0, 'refused'\nresult"
    return {
        "reading a file of the server is refused": f"open({str(secret)!r}).read()",
        "writing outside the folder is refused": f"open({str(secret) + '.new'!r}, 'w').write('x')",
        "opening a socket is refused": "import socket; socket.socket().fileno()",
        "starting a process is refused": "import os; os.fork()",
        "starting a program is refused": libc + "result = libc.execve(b'/bin/true', None, None)" + refused,
        "signalling the server is refused": f"import os; str(os.kill({os.getpid()}, 0))",
        "tracing the server is refused": libc + f"result = libc.ptrace(16, {os.getpid()}, 0, 0)" + refused,
    }
