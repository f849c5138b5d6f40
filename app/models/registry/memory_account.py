"""What the models of one process hold of each memory budget, which are idle, and which could give cache back."""

from collections.abc import Mapping

from app.models.registry.resident import Slot


class MemoryAccount:
    """Sizes in MiB; with a `host_mib` there is an account for main memory beside that of the device. Thread-safety is
    its user's."""

    def __init__(self, slots: Mapping[str, Slot], budget_mib: int, host_mib: int | None) -> None:
        self._slots = slots
        self._budget_mib = budget_mib
        self._host_mib = host_mib

    def budget(self, host: bool) -> int:
        return self._host_mib if host and self._host_mib is not None else self._budget_mib

    def free_mib(self, host: bool) -> int:
        return self.budget(host) - sum(slot.held_mib for slot in list(self._slots.values()) if self.shares(slot, host))

    def shares(self, slot: Slot, host: bool) -> bool:
        """Whether a slot is on the same account."""
        return self._host_mib is None or slot.on_host == host

    def idle_oldest_first(self, host: bool) -> list[Slot]:
        idle = [slot for slot in self._slots.values() if slot.evictable() and self.shares(slot, host)]
        return sorted(idle, key=lambda slot: slot.last_used)

    def with_spare(self, host: bool) -> list[Slot]:
        ready = [slot for slot in list(self._slots.values()) if slot.state == "ready" and self.shares(slot, host)]
        return [slot for slot in ready if slot.resident is not None and slot.resident.spare_mib > 0]
