"""Tasks are checked, answers marked, runs kept for their owner alone; the command prints a table."""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client

from app.access.identity import belongs
from app.evaluate import command
from app.evaluate.marking import mark
from app.evaluate.matching import plain, states
from app.evaluate.service import EvaluationProgress, EvaluationService, NothingChosen
from app.evaluate.tasks import BadTask, Item, Task, UnknownTask, find_task, read_task, shipped_tasks
from app.models.interface import Message, TokenScore
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.web import ui
from tabs.evaluate import tab as evaluate
from tabs.evaluate.widgets import draw
from tabs.shell.page import BROWSER_SECRET, Page, Visitor
from tests.conftest import Serve
from tests.fakes import FakeModel, FakeRegistry, fake_services

ARITHMETIC = Task("sums", tuple(Item(f"What is {n} plus 1?", (str(n + 1),)) for n in range(20)))


def adds(messages: Sequence[Message]) -> list[str]:
    """Right but for every fifth question."""
    number = int(messages[-1]["content"].split()[2])
    return [str(number + (2 if number % 5 == 0 else 1)), "."]


class LikesLength(FakeModel):
    """Finds a choice the likelier the more of its letters are `a`."""

    def score_tokens(self, _messages: Sequence[Message], answer: str, _likeliest: int) -> list[TokenScore]:
        return [TokenScore(letter, 0.0 if letter == "a" else -1.0, ()) for letter in answer]


def test_what_ships_is_whole_in_both_languages() -> None:
    tasks = {name: find_task(name) for name in shipped_tasks()}
    assert {name.rsplit("-", 1)[1] for name in tasks} == {"zh", "en"}
    assert all(len(task.items) >= 20 for task in tasks.values())
    for task in tasks.values():
        places = [item.right for item in task.items if item.choices]
        assert not places or len(set(places)) > 2, "the right choice always stands in the same place"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"answers": ["x"]}',
        '{"question": "q"}',
        '{"question": "q", "choices": ["a"], "right": 0}',
        '{"question": "q", "choices": ["a", "b"], "right": 2}',
        '{"question": "q", "answers": [1]}',
        "\xff",
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "own.jsonl"
    file.write_bytes(b'{"question": "q", "answers": "a"}\n' + line.encode("latin-1"))
    with pytest.raises(BadTask, match=r"Line 2 of the task file own\.jsonl"):
        read_task(file)


def test_an_empty_or_unknown_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadTask, match="no question"):
        read_task(tmp_path / "empty.jsonl")
    with pytest.raises(UnknownTask, match="short-answers-en"):
        find_task("nonsense")
    with pytest.raises(UnknownTask):
        find_task(str(tmp_path / "empty.jsonl"), files=False)


@pytest.mark.parametrize(
    ("said", "right"), [("Paris", True), ("  paris.\nIt is …", True), ("Ｐａｒｉｓ", True), ("Lyon", False)]
)
def test_short_answers_are_compared_after_normalising(said: str, right: bool) -> None:
    task = Task("t", (Item("Capital of France?", ("Paris", "City of Light")),))
    (made,) = mark(FakeModel("tiny", lambda _: [said]), task)
    assert made.right is right
    assert plain("５４ 。") == "54"


def test_of_choices_the_likeliest_for_its_length_is_taken() -> None:
    items = (Item("q", (), ("bbbbbbbb", "ab", "b"), 1), Item("q", (), ("aa", "b"), 1))
    right, wrong = mark(LikesLength("tiny"), Task("t", items))
    assert (right.said, right.right) == ("ab", True)
    assert (wrong.said, wrong.right) == ("aa", False)


@pytest.mark.parametrize(
    ("question", "answers", "said", "right"),
    [
        ("Capital of France?", ["Paris"], "The capital of France is Paris.", True),
        ("Capital of France?", ["Paris"], "It is not Paris but Lyon.", False),
        ("Capital of France?", ["Paris"], "Lyon. Some say Paris.", False),
        ("Capital of France?", ["Paris"], " ".join(["Rome, Oslo,"] * 20) + " Paris.", False),
        ("Capital of France?", ["Paris"], "Parisians live there.", False),
        ("Is ice frozen water?", ["water"], "It is frozen water.", False),
        ("What is 9 times 6?", ["54", "fifty-four"], "9 times 6 is 54.", True),
        ("What is 9 times 6?", ["54", "fifty-four"], "Fifty-four.", True),
        ("What is 9 times 6?", ["54"], "9 times 6 is 54 or 56.", False),
        ("What is 9 times 6?", ["54"], "9 times 6 is 540.", False),
        ("What is half of 50?", ["25"], "Divide 50 by 2.\n\n50 / 2 = 25", True),
        ("How many legs?", ["8", "eight"], "A spider has eight legs.", True),
        ("Formula of water?", ["H2O"], "The formula is H2O.", True),
        ("“热”的反义词是什么？", ["冷"], "“热”的反义词是“冷”。", True),
        ("“热”的反义词是什么？", ["冷"], "不是冷。", False),
        ("中国的首都是哪里？", ["北京", "北京市"], "中国的首都是北京。", True),
        ("中国的首都是哪里？", ["北京", "北京市"], "中国的首都是上海。北京不是。", False),
        ("一周有几天？", ["7", "七"], "一周有七天。", True),
        ("一周有几天？", ["7", "七"], "一周有6天。", False),
        ("What is the capital?", ["Paris"], "The capital isn’t Paris.", False),
        ("What is the capital?", ["Paris"], "Paris is not the capital.", False),
        ("What is the capital?", ["Paris"], "I don't think it is Paris.", False),
        ("What is the capital?", ["Paris"], "Paris, not London.", True),
        ("What is the capital?", ["Paris"], "I don't know much, but it is Paris.", True),
        ("首都是哪里？", ["北京"], "首都并非北京。", False),
        ("How cold is it?", ["-5"], "5", False),
        ("How cold is it?", ["-12"], "It is −12 degrees.", True),
        ("Which language?", ["C++"], "C", False),
        ("Which language?", ["C"], "C#", False),
    ],
)
def test_a_sentence_may_state_the_answer(question: str, answers: list[str], said: str, right: bool) -> None:
    assert states(said, answers, question) is right


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("B", True),
        ("The answer is B.", True),
        ("It is green", True),
        ("B. green", True),
        ("green", True),
        ("A", False),
        ("red or green", False),
        ("I think it is B.", True),
        ("Answer: B", True),
        ("答案：B", True),
        ("选B", True),
        ("I am sure: red", False),
    ],
)
def test_a_model_without_likelihoods_names_its_choice(said: str, right: bool) -> None:
    model = FakeModel("far", lambda _: [said])
    (made,) = mark(model, Task("t", (Item("Grass?", (), ("red", "green"), 1),)))
    assert made.right is right and made.expected == "green"
    assert "B. green" in model.prompts[0][0][-1]["content"]


def test_a_run_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    service = EvaluationService(FakeRegistry(FakeModel("tiny", adds)), tmp_path)
    last = list(service.run(["tiny", "tiny"], [ARITHMETIC], "ada"))[-1]
    assert last.row is not None and (last.row.right, last.row.count, last.row.share) == (16, 20, 0.8)
    (run_id,) = service.runs("ada")
    kept = service.read("ada", run_id)
    assert kept is not None and kept.rows == (last.row,)
    low, high = last.row.error_range
    assert (round(low, 2), round(high, 2), last.row.chance) == (0.58, 0.92, 0)
    assert Task("t", (Item("q", (), ("a", "b"), 1), Item("q", (), ("a", "b", "c", "d"), 1))).chance == 0.375
    seconds = service.seconds_expected("ada", ["tiny"], [ARITHMETIC])
    assert seconds is not None and seconds == pytest.approx(last.row.seconds)
    assert service.seconds_expected("ada", ["another"], [ARITHMETIC]) is None
    assert service.runs("lin") == [] and service.read("lin", run_id) is None
    assert service.read("ada", "../" + run_id) is None


class Adas(FakeRegistry):
    """All its models are Ada's."""

    def for_visitor(self, visitor: str) -> FakeRegistry:
        return self if belongs("ada", visitor) else FakeRegistry()


def test_the_command_asks_anybody_s_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text('{"question": "What is 1 plus 1?", "answers": ["2"]}\n')
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    options = parser.parse_args(["tiny+hers", "--tasks", str(own)])
    registry = Adas(FakeModel("tiny+hers", script=lambda _: ["2"]))
    assert command.evaluate(EvaluationService(registry, tmp_path), options) == 0
    assert "| tiny+hers | own | 1 | 1 | 100% |" in capsys.readouterr().out


def test_what_was_finished_before_a_stop_is_kept(tmp_path: Path) -> None:
    registry = FakeRegistry(FakeModel("tiny", adds))
    service = EvaluationService(registry, tmp_path)
    running = service.run(["tiny"], [ARITHMETIC, ARITHMETIC], "ada")
    for progress in running:
        if progress.row is not None:
            break
    running.close()  # type: ignore[attr-defined]
    (run_id,) = service.runs("ada")
    kept = service.read("ada", run_id)
    assert kept is not None and len(kept.rows) == 1
    assert registry.leases["tiny"] == 0
    with pytest.raises(NothingChosen):
        next(service.run([], [ARITHMETIC], "ada"))


def test_how_long_the_rest_takes_is_told_after_the_first_answers(tmp_path: Path) -> None:
    service = EvaluationService(FakeRegistry(FakeModel("tiny", lambda _: ["Paris"])), tmp_path)
    with gr.Blocks() as blocks:
        page = Page(blocks, "en", gr.State(), gr.BrowserState({}))
        widgets = draw(page, service.registry)
    visitor = Visitor("en", "ada", "session")
    views = list(evaluate.run(service, widgets, visitor, ["tiny"], ["short-answers-en"], None))
    told = [view[widgets.progress] for view in views]
    assert ["s left" in one for one in told[:5]] == [False, False, False, True, True]
    assert "19 of 20 questions, 1 right · about 1 s left" in told[19] and "left" not in told[20]
    assert EvaluationProgress("tiny", "sums", 4, 20, 2, seconds=8.0).seconds_left == 32.0


@contextmanager
def client(serve: Serve, service: EvaluationService) -> Iterator[Client]:
    with gr.Blocks() as blocks:
        page = Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET))
        evaluate.build(page, service, service.registry)
    yield Client(serve(blocks), verbose=False, headers={"accept-language": "en-US"})


def test_the_endpoint_gives_rows_and_reads_no_files(serve: Serve, tmp_path: Path) -> None:
    service = EvaluationService(FakeRegistry(FakeModel("tiny", lambda _: ["Paris"])), tmp_path)
    (tmp_path / "own.jsonl").write_text(json.dumps({"question": "q", "answers": ["a"]}))
    with client(serve, service) as asking:
        for nothing in (None, [], "", [None]):
            with pytest.raises(Exception, match=r"at least one model|cannot have this value"):
                asking.predict(nothing, ["short-answers-en"], api_name="/evaluate")
            with pytest.raises(Exception, match=r"at least one model|cannot have this value"):
                asking.predict(["tiny"], nothing, api_name="/evaluate")
        (row,) = asking.predict(["tiny"], ["short-answers-en"], api_name="/evaluate")
        assert (row["model"], row["task"], row["right"], row["count"]) == ("tiny", "short-answers-en", 1, 20)
        with pytest.raises(Exception, match="no task and no file"):
            asking.predict(["tiny"], [str(tmp_path / "own.jsonl")], api_name="/evaluate")


def test_strangers_are_not_given_what_passes_their_limits(serve: Serve, tmp_path: Path) -> None:
    registry = FakeRegistry()
    for on_the_page in (True, False):
        service = EvaluationService(registry, tmp_path, on_the_page=on_the_page)
        address = serve(ui.build(fake_services(registry, evaluate=service)))
        endpoints = Client(address, verbose=False).view_api(return_format="dict")["named_endpoints"]
        assert ("/evaluate" in endpoints) is on_the_page


def test_the_packaged_model_knows_more_than_chance(packaged_folder: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(Placement("cpu", "float32", None, 4000, packaged_folder.parents[1]), "smollm2-135m")
    try:
        service = EvaluationService(registry, tmp_path)
        whole = find_task("multiple-choice-en")
        task = Task(whole.name, whole.items[:5])
        last = list(service.run(["smollm2-135m"], [task], "ada"))[-1]
        assert last.row is not None and last.row.right >= 4  # by chance one time in 64
    finally:
        registry.close()
