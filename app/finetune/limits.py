"""Limits on trainings where strangers can come in: steps, runs, queue length, disk and age."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.access.client_address import ClientAddresses
from app.access.identity import Server
from app.errors import BadInput
from app.finetune.runs import Run

MIB = 2**20
DAY = 86_400.0
NETWORK_SHARE = 3  # visitors' runs that one network address may hold


class TooManySteps(BadInput):
    zh = "这台服务器上一次训练最多 {limit} 步，你要求了 {steps} 步。请减少步数。"
    en = "On this server a training has at most {limit} steps, {steps} were asked for. Choose fewer."


class TooManyRuns(BadInput):
    zh = "每位访客最多保留 {limit} 次训练（同一网络最多 {network} 次）。请先删除不要的训练。"
    en = "Each visitor may keep {limit} runs, all of one network {network}. Delete one that you do not need first."


class QueueFull(BadInput):
    zh = "已有 {limit} 次训练在排队，请稍后再试。"
    en = "{limit} trainings are waiting already; try again later."


class DiskShareFull(BadInput):
    zh = "访客的训练共可占用 {limit} MiB 磁盘，已经不够。请删除不要的训练，或减少保存次数。"
    en = "All visitors' trainings may take {limit} MiB of disk, too little is left. Delete runs or save less often."


@dataclass(frozen=True)
class RunLimits:
    """What visitors may train; 0 is no limit. The server's own runs have none."""

    steps: int = 0
    runs: int = 0  # of one visitor
    waiting: int = 0  # of all
    disk_mib: int = 0  # of all visitors' runs together
    days: float = 0  # after its end a run is deleted, and a data set after its last use
    sets: int = 0  # data sets of one visitor
    sets_mib: int = 0  # of all visitors' data sets together
    repositories: bool = True  # whether adapters may be fetched from repositories of the visitor's choice

    def check_steps(self, owner: str, steps: int) -> None:
        """Raises TooManySteps."""
        if self.steps and steps > self.steps and not isinstance(owner, Server):
            raise TooManySteps(limit=self.steps, steps=steps)

    def check_room(self, owner: str, runs: Sequence[Run], addresses: ClientAddresses, folder: Path, mib: int) -> None:
        """Whether one more run that takes `mib` of disk may come. Raises TooManyRuns, QueueFull, DiskShareFull."""
        if isinstance(owner, Server):
            return
        network = addresses.of(owner)
        own = sum(run.owner == owner for run in runs)
        near = sum(bool(network) and addresses.of(run.owner) == network for run in runs)
        if self.runs and (own >= self.runs or near >= self.runs * NETWORK_SHARE):
            raise TooManyRuns(limit=self.runs, network=self.runs * NETWORK_SHARE)
        if self.waiting and sum(run.state == "queued" for run in runs) >= self.waiting:
            raise QueueFull(limit=self.waiting)
        self.check_disk(owner, runs, folder, mib)

    def check_disk(self, owner: str, runs: Sequence[Run], folder: Path, mib: int) -> None:
        """Raises DiskShareFull where visitors' runs have no `mib` left."""
        theirs = [folder / run.id for run in runs if not isinstance(run.owner, Server)]
        if self.disk_mib and not isinstance(owner, Server) and sum(map(size_mib, theirs)) + mib > self.disk_mib:
            raise DiskShareFull(limit=self.disk_mib)

    def is_over(self, run: Run) -> bool:
        """Whether a run has ended so long ago that it is to go."""
        if not self.days or run.is_under_way or isinstance(run.owner, Server):
            return False
        return time.time() - max(run.created, run.ended) > self.days * DAY


FOR_STRANGERS = RunLimits(
    steps=2000, runs=5, waiting=10, disk_mib=10_240, days=7, sets=5, sets_mib=1024, repositories=False
)


def size_mib(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // MIB
