"""Lock a sandbox child irrevocably: user id, resource limits, Landlock, seccomp."""

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

from app.agent.sandbox import landlock, seccomp
from app.agent.sandbox.kernel import die_with_parent
from app.agent.sandbox.limits import Limits

_MIB = 1 << 20


@dataclass(frozen=True)
class Confinement:
    """Where a child may go. A root server's children become `user`; without files nothing is opened."""

    folder: str
    readable: tuple[str, ...]
    with_files: bool
    user: int
    limits: Limits


def lock(confinement: Confinement) -> None:
    """Give up rights, then files, then system calls. Raises MissingError where the kernel lacks a step."""
    os.nice(5)
    _prefer_as_victim()
    _bound_resources(confinement.limits)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(confinement.user, confinement.user, confinement.user)
        os.setresuid(confinement.user, confinement.user, confinement.user)
    die_with_parent()
    known = landlock.version()
    if confinement.with_files:
        landlock.restrict(confinement.readable, [confinement.folder])
    seccomp.restrict(confinement.with_files, guard_truncation=known < 3)


def _prefer_as_victim() -> None:
    """When memory runs out the kernel shall end this process, not the server."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _bound_resources(limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    address_space = pages * resource.getpagesize() + limits.memory_mib * _MIB
    bounds = {
        resource.RLIMIT_AS: address_space,
        resource.RLIMIT_CPU: limits.processor_seconds,
        resource.RLIMIT_FSIZE: limits.file_mib * _MIB,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_STACK: 8 * _MIB,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in bounds.items():
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))
