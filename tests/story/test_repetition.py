"""What counts as said before."""

from app.story.repetition import Memory


def remembering(*sentences: str) -> Memory:
    memory = Memory()
    for sentence in sentences:
        memory.add(sentence)
    return memory


def test_a_sentence_said_again_is_noticed_in_other_words_too() -> None:
    memory = remembering("He looked at the grey sea and thought of home.", "小猫在图书馆的角落里睡着了。")
    assert memory.repeats("He looked at the grey sea and thought of home.")
    assert memory.repeats("Again he looked at the grey sea and thought of her.")
    assert memory.repeats("小猫在图书馆的角落里又睡着了。")
    assert not memory.repeats("He looked at the clock and put on his coat.")
    assert not memory.repeats("图书馆的灯一盏一盏熄灭了。")


def test_a_short_sentence_may_come_back_later_but_not_at_once() -> None:
    memory = remembering("He smiled.")
    assert memory.repeats("He smiled.")
    for number in range(8):
        memory.add(f"Then something new came number {number} along the road.")
    assert not memory.repeats("He smiled.")


def test_a_sentence_that_turns_in_a_circle() -> None:
    assert Memory().repeats("the glass half empty, " * 8)
    assert Memory().repeats("献给他们的美，" * 6)
    assert not Memory().repeats("The lamp went out, the door fell shut, and nobody on the stairs said a single word.")


def test_a_beginning_is_held_back_until_it_is_new() -> None:
    memory = remembering("He looked at the grey sea and thought of home.")
    assert memory.may_repeat("He looked")
    assert memory.may_repeat("He looked at the grey sea")
    assert not memory.may_repeat("She closed the book and left the room")
