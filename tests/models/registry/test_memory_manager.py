"""The memory account: one load for many callers, eviction of what is idle, refusal, failure."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from app.errors import DoesNotFit, ModelInUse, StudioError
from app.models.interface import ReportProgress
from app.models.registry import memory_manager as managing
from app.models.registry.device_memory import working_mib
from app.models.registry.memory_manager import DownloadStopped, LargerThanBudget, MemoryManager
from app.models.registry.resident import ModelSpec


@dataclass
class Weights:
    """A resident that only says what it holds."""

    mib: int
    parks: bool = False
    cache_mib: int = 0
    unused: int = 0
    spare_mib: int = 0
    busy: bool = False
    device: str = "cuda"
    log: list[str] = field(default_factory=list)

    def close(self) -> None:
        self.log.append("close")

    def park(self) -> bool:
        self.log.append("park")
        return self.parks

    def unpark(self, room_mib: int) -> None:
        self.log.append(f"unpark with {room_mib}" if room_mib else "unpark")

    def shrink(self, mib: int, patience_s: float = 0.0) -> None:
        if self.busy and not patience_s:
            return
        self.log.append(f"shrink {mib}")
        given = min(mib, self.spare_mib)
        self.cache_mib, self.spare_mib = self.cache_mib - given, self.spare_mib - given

    def trim(self) -> None:
        self.log.append("trim")
        self.mib -= self.unused
        self.unused = 0


def spec(weights: Weights, name: str = "a", load: Callable[[ReportProgress], object] | None = None) -> ModelSpec:
    return ModelSpec(name, "chat", lambda: weights.mib, load or (lambda _: weights))  # type: ignore[arg-type]


def use(memory_manager: MemoryManager, *specs: ModelSpec) -> None:
    """Lease one after the other."""
    for wanted in specs:
        with memory_manager.lease(wanted):
            pass


def state(memory_manager: MemoryManager, name: str) -> str:
    return next((e.state for e in memory_manager.ledger(lambda _: ()).models if e.name == name), "absent")


def test_simultaneous_callers_share_one_load() -> None:
    loads: list[int] = []
    together = threading.Barrier(5)
    weights = Weights(10)

    def load(_: ReportProgress) -> Weights:
        loads.append(1)
        return weights

    memory_manager = MemoryManager(100)

    def use() -> object:
        together.wait()
        with memory_manager.lease(spec(weights, load=load)) as resident:
            return resident

    with ThreadPoolExecutor(5) as pool:
        assert {id(future.result()) for future in [pool.submit(use) for _ in range(5)]} == {id(weights)}
    assert len(loads) == 1


def test_the_least_recently_used_idle_one_makes_room() -> None:
    memory_manager = MemoryManager(100)
    first, second = Weights(50), Weights(40)
    for name, weights in (("first", first), ("second", second), ("first", first)):
        with memory_manager.lease(spec(weights, name)):
            pass
    assert memory_manager.fit(spec(Weights(30), "third")).evicts == ("second",)
    with memory_manager.lease(spec(Weights(30), "third")):
        assert (state(memory_manager, "first"), state(memory_manager, "second")) == ("ready", "absent")
    assert second.log == ["close"], "nothing is parked where models run in main memory"
    assert memory_manager.ledger(lambda _: ()).used_mib == 80


def test_a_cache_is_made_smaller_before_anything_idle_goes() -> None:
    memory_manager = MemoryManager(100)
    first, second = Weights(20, cache_mib=50, spare_mib=40), Weights(20)
    use(memory_manager, spec(first, "first"), spec(second, "second"))
    wanted = spec(Weights(30), "third")
    assert memory_manager.fit(wanted).evicts == ()
    with memory_manager.lease(wanted):
        assert [state(memory_manager, name) for name in ("first", "second")] == ["ready", "ready"]
    assert (first.log, first.cache_mib) == (["shrink 20"], 30)
    larger = spec(Weights(75), "fourth")
    assert memory_manager.fit(larger).evicts == ("first", "second", "third")
    with memory_manager.lease(larger):
        assert first.log == ["shrink 20", "shrink 75", "close"]


def test_a_cache_that_answers_are_written_from_is_waited_for_when_nothing_idle_is_left() -> None:
    memory_manager = MemoryManager(100)
    first, idle = Weights(20, cache_mib=50, spare_mib=40, busy=True), Weights(25)
    with memory_manager.lease(spec(first, "first")):
        use(memory_manager, spec(idle, "idle"))
        with memory_manager.lease(spec(Weights(30), "third")):
            assert idle.log == ["close"] and first.log == []
            with memory_manager.lease(spec(Weights(20), "fourth")):
                assert first.log == ["shrink 20"]
                with pytest.raises(DoesNotFit):
                    use(memory_manager, spec(Weights(30), "fifth"))


def test_a_cache_takes_what_is_free_but_for_the_room_of_adapters_and_embedders() -> None:
    memory_manager = MemoryManager(4000, host_mib=4000)
    rests: list[int] = []
    weights = Weights(500, parks=True)

    def load(_: ReportProgress) -> Weights:
        rests.append(memory_manager.reserve_rest("a"))
        free = memory_manager.fit(spec(Weights(1), "b")).free_mib
        assert free == working_mib(4000) == 1000, "reserved while it is brought in"
        weights.cache_mib, weights.spare_mib = rests[0], rests[0] - 100
        return weights

    use(memory_manager, spec(weights, load=load))
    assert rests == [4000 - 500 - 1000]
    use(memory_manager, spec(Weights(3900), "large"))
    assert weights.log[-1] == "park" and weights.cache_mib == 100
    use(memory_manager, spec(weights))
    assert weights.log[-1] == f"unpark with {4000 - 600 - 1000}"


def test_what_is_leased_is_never_evicted() -> None:
    memory_manager = MemoryManager(100)
    with memory_manager.lease(spec(Weights(80), "used")):
        assert not memory_manager.fit(spec(Weights(30), "more")).fits
        with pytest.raises(DoesNotFit) as refused, memory_manager.lease(spec(Weights(30), "more")):
            pass
        assert (refused.value.values["needed_mib"], refused.value.values["free_mib"]) == (30, 20)
        with pytest.raises(ModelInUse):
            memory_manager.unload("used")
    memory_manager.unload("used")
    assert memory_manager.ledger(lambda _: ()).used_mib == 0


def test_a_parked_one_comes_back_without_a_load() -> None:
    memory_manager = MemoryManager(100, host_mib=100)
    parks = Weights(60, parks=True)
    loads: list[int] = []

    def load(_: ReportProgress) -> Weights:
        loads.append(1)
        return parks

    with memory_manager.lease(spec(parks, "parks", load)):
        pass
    with memory_manager.lease(spec(Weights(70), "other")):
        assert state(memory_manager, "parks") == "parked"
    with memory_manager.lease(spec(parks, "parks", load)):
        assert state(memory_manager, "parks") == "ready"
    assert (parks.log, loads) == (["park", "unpark with 15"], [1])


def test_what_is_parked_is_on_the_account_of_main_memory() -> None:
    memory_manager = MemoryManager(100, host_mib=130)
    first, second, third = (Weights(60, parks=True) for _ in range(3))
    use(memory_manager, spec(first, "first"), spec(second, "second"), spec(third, "third"))
    entries = {e.name: (e.state, e.mib) for e in memory_manager.ledger(lambda _: ()).models}
    assert entries == {"first": ("parked", 60), "second": ("parked", 60), "third": ("ready", 60)}
    use(memory_manager, spec(Weights(90), "fourth"))
    assert first.log == ["park", "close"], "the longest parked one made room for the third"
    assert [state(memory_manager, name) for name in ("first", "second", "third")] == ["absent", "parked", "parked"]
    embedder = ModelSpec("embedder", "embedder", lambda: 70, lambda _: Weights(70, device="cpu"), on_host=True)
    use(memory_manager, embedder)
    assert (second.log, third.log) == (["park", "close"], ["park"]), "what runs there makes room there"
    assert memory_manager.ledger(lambda _: ()).used_mib == 90
    memory_manager.unload("third")
    assert third.log == ["park", "close"]


def test_room_for_more_is_made_and_refused() -> None:
    memory_manager = MemoryManager(100)
    idle, used = Weights(40), Weights(50)
    use(memory_manager, spec(idle, "idle"))
    with memory_manager.lease(spec(used, "used")):
        with memory_manager.room_for_more("used", 20):
            assert idle.log == ["close"]
            assert memory_manager.ledger(lambda _: ()).used_mib == 70
            used.mib, used.unused = 70, 20
        assert memory_manager.ledger(lambda _: ()).used_mib == 70
        with memory_manager.room_for_more("used", 50):
            assert used.log == ["trim"], "what nobody uses of it went first"
        with pytest.raises(DoesNotFit), memory_manager.room_for_more("used", 51):
            pass
        assert memory_manager.ledger(lambda _: ()).used_mib == 50
    with pytest.raises(LargerThanBudget, match="100"):
        use(memory_manager, spec(Weights(101), "large"))


def test_a_failed_load_keeps_none_of_its_weights_and_is_forgotten() -> None:
    now = [0.0]
    memory_manager = MemoryManager(100, clock=lambda: now[0])
    half: list[weakref.ref[Weights]] = []

    def load(_: ReportProgress) -> Weights:
        weights = Weights(90)
        half.append(weakref.ref(weights))
        try:
            raise ValueError("no such layer")
        except ValueError as error:
            raise RuntimeError(weights.mib) from error

    caught: list[Exception] = []
    for name in "abcde":
        with pytest.raises(RuntimeError) as raised:
            use(memory_manager, spec(Weights(90), name, load))
        caught.append(raised.value)  # as a caller may keep it
        now[0] += 1
    assert [kept() for kept in half] == [None] * 5
    entries = memory_manager.ledger(lambda _: ()).models
    assert [(e.name, e.state) for e in entries] == [(name, "failed") for name in "cde"]
    assert "90" not in entries[0].detail and "日志" in entries[0].detail_zh
    memory_manager.unload("c")
    now[0] += managing.FAILED_SHOWN_S
    assert memory_manager.ledger(lambda _: ()).models == ()


def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_later() -> None:
    memory_manager = MemoryManager(100)
    waiting, go = threading.Event(), threading.Event()
    failing, loads = [True], []

    def load(_: ReportProgress) -> Weights:
        loads.append(1)
        waiting.set()
        go.wait(120)
        if failing[0]:
            raise StudioError
        return Weights(10)

    def use() -> None:
        with memory_manager.lease(spec(Weights(10), "a", load)):
            pass

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(use)
        assert waiting.wait(120)
        second = pool.submit(use)
        while memory_manager.ledger(lambda _: ()).models[0].leases < 2:
            pass
        go.set()
        for future in (first, second):
            with pytest.raises(StudioError):
                future.result()
    assert state(memory_manager, "a") == "failed"
    assert len(loads) == 1
    failing[0] = False
    use()
    assert state(memory_manager, "a") == "ready"


def test_a_download_is_stopped_unless_somebody_waits_for_it() -> None:
    memory_manager = MemoryManager(100)
    begun, go = threading.Event(), threading.Event()

    def fetch(report: ReportProgress) -> None:
        report(0.1, "some")
        begun.set()
        go.wait(120)
        report(0.2, "more")

    def use() -> None:
        with memory_manager.lease(ModelSpec("a", "chat", lambda: 10, lambda _: Weights(10), fetch)):
            pass

    with ThreadPoolExecutor(2) as pool:
        alone = pool.submit(use)
        assert begun.wait(120)
        memory_manager.unload("a")
        go.set()
        with pytest.raises(DownloadStopped):
            alone.result()
        assert state(memory_manager, "a") == "absent"
        begun.clear()
        go.clear()
        both = [pool.submit(use), pool.submit(use)]
        assert begun.wait(120)
        while memory_manager.ledger(lambda _: ()).models[0].leases < 2:
            pass
        with pytest.raises(ModelInUse):
            memory_manager.unload("a")
        go.set()
        for future in both:
            future.result()
    assert state(memory_manager, "a") == "ready"


def test_progress_shows_while_loading() -> None:
    memory_manager = MemoryManager(100)
    seen: list[tuple[str, float | None, int]] = []

    def load(report: ReportProgress) -> Weights:
        report(0.5, "half")
        entry = memory_manager.ledger(lambda _: ()).models[0]
        seen.append((entry.state, entry.progress, entry.mib))
        return Weights(10)

    with memory_manager.lease(spec(Weights(10), "a", load)):
        pass
    assert seen == [("loading", 0.5, 10)]
