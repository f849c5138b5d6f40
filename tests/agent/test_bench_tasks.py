"""The tasks of `bench.agent_tasks`: in two languages, with files, and solved by whatever model is named."""

import pytest

from app.agent.service import AgentService
from bench.agent_tasks import contains, questions, with_interpreter
from tests.agent.scripted import python, scripted
from tests.fakes import FakeRegistry


def test_sixty_tasks_half_in_each_language_a_third_with_files() -> None:
    asked = questions()
    assert len({question.task for question in asked}) == len(asked) == 60
    for language in ("zh", "en"):
        assert len(questions(language)) == 30
        assert sum(bool(question.files) for question in questions(language)) == 10
    assert all(name in question.task for question in asked for name in question.files)


def test_a_task_with_a_file_is_solved_by_code_that_reads_it(service: AgentService) -> None:
    if not service.with_files:
        pytest.skip("no files here")
    question = next(question for question in questions("en") if "mean of the tea column" in question.task)
    code = (
        "import csv\nteas = [int(row['tea']) for row in csv.DictReader(open('sales.csv'))]\n"
        "print(sum(teas) / len(teas))"
    )
    service.registry = FakeRegistry(scripted(python(code), "The mean is 128.75."))
    answer, outputs = with_interpreter(service, "", question, "me")
    assert contains(answer, question) and contains(outputs, question)
    assert service.files("me") == []
