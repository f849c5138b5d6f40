"""Replies as models write them: what is prose, what is code, and when the call is complete."""

import pytest

from app.agent.replies import parse_reply
from app.agent.tools import named_call

ONE = "print(17 * 23)"
TWO = "x = 3\nprint(x)"
FENCED = 'text = """\n```\nx\n```\n"""\nprint(len(text))'
README = 'text = """# Use\n```bash\npip install x\n```\nand\n```\nx\n```\n"""\nopen("README.md", "w").write(text)'
AWAITED = "async def f():\n    return 1\nawait f()"
CALLED = '{"code": "print(17 * 23)"}'

# name -> (reply, the code in it, or None for an answer)
REPLIES: dict[str, tuple[str, str | None]] = {
    "a Python block": (f"I compute.\n```python\n{ONE}\n```", ONE),
    "py, capitals, spaces": (f"``` Py \n{ONE}\n```", ONE),
    "python3": (f"```python3\n{TWO}\n```\n", TWO),
    "no language": (f"Let me see:\n```\n{TWO}\n```", TWO),
    "Windows line ends": (f"```python\r\n{TWO.replace(chr(10), chr(13) + chr(10))}\r\n```", TWO),
    "tildes": (f"~~~python\n{ONE}\n~~~", ONE),
    "four backticks": ("````python\nprint('```')\n````", "print('```')"),
    "not closed": (f"```python\n{TWO}", TWO),
    "in braces": (f"```{{python}}\n{ONE}\n```", ONE),
    "in one line": (f"Here: ```python {ONE}```", ONE),
    "opened within a line": (f"The code is ```python\n{ONE}\n```", ONE),
    "indented in a list": ("1. First:\n   ```python\n   x = 3\n   print(x)\n   ```\n2. Then", TWO),
    "indented with an inner block": (
        "   ```python\n   for n in (1,):\n       print(n)\n   ```",
        "for n in (1,):\n    print(n)",
    ),
    "a shell block before": (f"```bash\npip install numpy\n```\nThen:\n```python\n{ONE}\n```", ONE),
    "a text block before": (f"The file:\n```csv\na,b\n1,2\n```\n```python\n{ONE}\n```", ONE),
    "a JSON block before": (f'```json\n{{"a": 1}}\n```\nnow\n```python\n{ONE}\n```', ONE),
    "several Python blocks": (f"```python\n{ONE}\n```\nand\n```python\nprint(2)\n```", ONE),
    "an output invented after it": (f"```python\n{ONE}\n```\nOutput:\n```\n391\n```", ONE),
    "only output in a block": ("The result:\n```\n391\n```", None),
    "only shell": ("Run this:\n```bash\nls\n```", None),
    "thinking before": (f"<think>\n```python\nprint(0)\n```\nno\n</think>\n\n```python\n{ONE}\n```", ONE),
    "thinking opened by the template": (f"I think so.\n</think>\n```python\n{ONE}\n```", ONE),
    "thinking, then an answer": ("<think>\nprint(1)\n</think>\nIt is 391.", None),
    "no fence": (TWO, TWO),
    "no fence, imports": ("import math\nmath.sqrt(2)", "import math\nmath.sqrt(2)"),
    "no fence after prose": (f"Here is the code:\n\n{TWO}\n\nThis prints it.", TWO),
    "an interactive session": ("```python\n>>> x = 3\n>>> print(x)\n3\n```", TWO),
    "an answer that is a formula": ("x = 3", None),
    "an answer in words": ("The answer is 391, as print shows.", None),
    "Qwen's tool call": ('<tool_call>\n{"name": "python", "arguments": {"code": "print(17 * 23)"}}\n</tool_call>', ONE),
    "Qwen's with line breaks": (
        '<tool_call>{"name": "code_interpreter", "arguments": {"code": "x = 3\nprint(x)"}}</tool_call>',
        TWO,
    ),
    "Qwen3-Coder's XML": (
        "<tool_call>\n<function=python>\n<parameter=code>\nx = 3\nprint(x)\n</parameter>\n</function>\n</tool_call>",
        TWO,
    ),
    "arguments as text": (
        '<tool_call>{"name": "python", "arguments": "{\\"code\\": \\"print(17 * 23)\\"}"}</tool_call>',
        ONE,
    ),
    "OpenAI's function": ('{"name": "python", "arguments": {"code": "print(17 * 23)"}}', ONE),
    "Llama's python tag": (f"<|python_tag|>{ONE}<|eom_id|>", ONE),
    "Llama's JSON": ('{"name": "code_interpreter", "parameters": {"code": "print(17 * 23)"}}', ONE),
    "Mistral's calls": ('[TOOL_CALLS][{"name": "python", "arguments": {"code": "print(17 * 23)"}}]', ONE),
    "Gemma's tool_code": (f"```tool_code\n{ONE}\n```", ONE),
    "InternLM's interpreter": (f"I compute.<|action_start|><|interpreter|>\n{TWO}<|action_end|>\n", TWO),
    "InternLM's with a fence": (f"<|action_start|><|interpreter|>\n```python\n{TWO}\n```<|action_end|>", TWO),
    "InternLM's plugin": (
        '<|action_start|><|plugin|>\n{"name": "python", "parameters": {"command": "print(17 * 23)"}}<|action_end|>',
        ONE,
    ),
    "CodeAct's execute": (f"<execute>\n{TWO}\n</execute>", TWO),
    "smolagents' code": (f"Thought: I add.\n<code>\n{TWO}\n</code>", TWO),
    "ReAct": (f"Thought: add\nAction: python\nAction Input: {ONE}\nObservation: 9", ONE),
    "DeepSeek's calls": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>python\n"
        f"```json\n{CALLED}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ONE,
    ),
    "DeepSeek's newer calls": (f"<｜tool▁call▁begin｜>python<｜tool▁sep｜>{CALLED}<｜tool▁call▁end｜>", ONE),
    "GLM's pairs": (f"<tool_call>python\n<arg_key>code</arg_key>\n<arg_value>{ONE}</arg_value>\n</tool_call>", ONE),
    "gpt-oss's channel": (f"<|channel|>commentary to=python code<|message|>{ONE}<|call|>", ONE),
    "gpt-oss's function": (
        f"<|channel|>commentary to=functions.python <|constrain|>json<|message|>{CALLED}<|call|>",
        ONE,
    ),
    "Kimi's calls": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.python:0<|tool_call_argument_begin|>"
        f"{CALLED}<|tool_call_end|><|tool_calls_section_end|>",
        ONE,
    ),
    "LFM2's Python": ('<|tool_call_start|>[python(code="print(17 * 23)")]<|tool_call_end|>', ONE),
    "Llama 4's Python": ('[python(code="print(17 * 23)")]', ONE),
    "MiniCPM's Python": (
        '<|tool_call_start|>\n```python\npython(code="print(17 * 23)")\n```\n<|tool_call_end|>',
        ONE,
    ),
    "Mistral's newer calls": (f"[TOOL_CALLS]python[ARGS]{CALLED}", ONE),
    "Functionary's": (f"<function=python>{CALLED}</function>", ONE),
    "Claude's XML": (
        f'<function_calls><invoke name="python"><parameter name="code">{ONE}</parameter></invoke></function_calls>',
        ONE,
    ),
    "Command R's": (f'Action: ```json\n[{{"tool_name": "python", "parameters": {CALLED}}}]\n```', ONE),
    "OpenAI's message": (f'{{"tool_calls": [{{"function": {{"name": "python", "arguments": {CALLED}}}}}]}}', ONE),
    "a call in a JSON block": (f'```json\n{{"name": "python", "arguments": {CALLED}}}\n```', ONE),
    "a call in a tool_call block": (f'```tool_call\n{{"name": "python", "arguments": {CALLED}}}\n```', ONE),
    "a call with single quotes": (
        "<tool_call>{'name': 'python', 'arguments': {'code': 'print(17 * 23)'}}</tool_call>",
        ONE,
    ),
    "Kimi's without its marks": (f"functions.python:0{CALLED}", ONE),
    "DeepSeek's without its marks": (f"functionpython\n```json\n{CALLED}\n```", ONE),
    "thought and code as JSON": ('{"thought": "I multiply.", "code": "print(17 * 23)"}', ONE),
    "an answer with a code": ('```json\n{"code": "A-12"}\n```', None),
    "an answer that is JSON": ('```json\n{"name": "tea", "parameters": {"price": 31}}\n```', None),
    "a title beside the language": (f'```python title="a.py"\n{ONE}\n```', ONE),
    "a file's name": (f"```main.py\n{ONE}\n```", ONE),
    "the language on a line of its own": (f"```\npython\n{ONE}\n```", ONE),
    "within a quotation": ("> ```python\n> x = 3\n> print(x)\n> ```", TWO),
    "numbered lines": ("```python\n1 x = 3\n2 print(x)\n```", TWO),
    "blanks that do not break": (f"```python\n{TWO.replace(' ', chr(0xA0))}\n```", TWO),
    "typographic quotes": ("```python\nprint(“a”)\n```", 'print("a")'),
    "full-width signs": ("```python\nprint（17 * 23）\n```", ONE),
    "typographic quotes within a text": ("```python\nprint('“a”')\n```", "print('“a”')"),
    "DeepSeek's XML": (
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="python">\n'
        f'<｜DSML｜parameter name="code" string="true">{ONE}</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        ONE,
    ),
    "Qwen-Agent's signs": (f"✿FUNCTION✿: code_interpreter\n✿ARGS✿: {CALLED}\n✿RESULT✿", ONE),
    "a draft in the reasoning": (f"<reasoning>\n```python\nprint(0)\n```\n</reasoning>\n```python\n{ONE}\n```", ONE),
    "Magistral's thinking": (f"[THINK]\n{TWO}\n\n[/THINK]It is 391.", None),
    "Markdown's indented code": (f"The code:\n\n    import math\n    {ONE}\n\nDone.", f"import math\n{ONE}"),
    "a cell of Jupyter": (f"```jupyter\n{ONE}\n```", ONE),
    "a word beside the language": (f"```python exec\n{ONE}\n```", ONE),
    "code that begins beside the language": (
        "```python for n in (1,):\n    print(n)\n```",
        "for n in (1,):\n    print(n)",
    ),
    "code of two lines that begins there": ("```python x = 3\nprint(x)\n```", TWO),
    "a version of Python": (f"```python3.12\n{ONE}\n```", ONE),
    "a version and code": (f"```python3.12 {ONE}```", ONE),
    "a remark beside the language": (f"```python, runnable\n{ONE}\n```", ONE),
    "a sentence beside the language": (f"```python This prints it:\n{ONE}\n```", ONE),
    "a command beside the language": (f"```python|run\n{ONE}\n```", ONE),
    "R Markdown's chunk": (f"```{{python echo=FALSE}}\n{ONE}\n```", ONE),
    "Pandoc's classes": (f"```{{.python .numberLines}}\n{ONE}\n```", ONE),
    "IPython of a version": (f"```ipython3\n{ONE}\n```", ONE),
    "a console of a version": (f"```pycon3\n>>> {ONE}\n391\n```", ONE),
    "a console by another name": (f"```python-repl\n>>> {ONE}\n391\n```", ONE),
    "MyST's cell": (f"```{{code-cell}} ipython3\n{ONE}\n```", ONE),
    "a fence within a string": (f"```python\n{FENCED}\n```\nAnd on.", FENCED),
    "a block within a string": (f"```python\n{README}\n```\n", README),
    "a fence within a string, not closed": (f"```python\n{README}", README),
    "a string without an end": ('```python\nprint("""a\n```\nIt prints:\n```\na\n```', 'print("""a'),
    "a formula in a block": ("It is:\n```\ny = 2x + 3\n```", None),
    "a formula in Python's words": ("It is:\n```\ny = 2 * x + 3\n```", None),
    "words with an equals sign": ("```\nname = Tom Smith\n```", None),
    "a poem in a block": ("```\nwhile the moon is up\nfor you I sing\nimport the night\n```", None),
    "an output that is a call": ("```\nCounter({'a': 3})\n```", None),
    "only an installation": ("Run this first:\n```\npip install seaborn\n```", None),
    "methods without a language": ("```\ndf.plot()\nplt.show()\n```", "df.plot()\nplt.show()"),
    "await without a language": (f"```\n{AWAITED}\n```", AWAITED),
    "a value without a language": ("```\nx = 3\nx * 2\n```", "x = 3\nx * 2"),
    "a magic without a language": (f"```\n%matplotlib inline\n{ONE}\n```", f"%matplotlib inline\n{ONE}"),
    "a mistake without a language": ("```\nimport math\nprint(math.pi\n```", "import math\nprint(math.pi"),
    "words behind the closing fence": (f"```python\n{TWO}\n``` prints 3.", TWO),
    "a search as a tool call": (
        '<tool_call>{"name": "search_documents", "arguments": {"query": "price of tea"}}</tool_call>',
        "search_documents(query='price of tea')",
    ),
    "a search in a block": ('```python\nsearch_documents("price of tea")\n```', 'search_documents("price of tea")'),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_taken_apart(name: str) -> None:
    text, code = REPLIES[name]
    reply = parse_reply(text, ("search_documents",))
    assert reply.code == code
    assert "<|" not in reply.thought and "<think>" not in reply.thought
    for end in range(len(text)):  # a reply that grows is never an error, and complete only once the code is whole
        part = parse_reply(text[:end], ("search_documents",))
        assert not part.complete or part.code == code, text[:end]


def test_prose_and_thinking_are_told_apart() -> None:
    reply = parse_reply(f"<think>17 times 23</think>I compute.\n```python\n{ONE}\n```\nand so on")
    assert (reply.thinking, reply.thought.strip(), reply.code, reply.complete) == (
        "17 times 23",
        "I compute.",
        ONE,
        True,
    )
    assert parse_reply("<think>still").thinking == "still" and parse_reply("<think>still").thought == ""


def test_a_call_of_an_unknown_tool_says_so() -> None:
    reply = parse_reply('<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>')
    assert reply.code is not None and "no such tool" in reply.code


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ('<tool_call>{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}</tool_call>', "city='Oslo', days=2"),
        ('<|action_start|><|plugin|>{"name": "weather", "parameters": {"city": "Oslo"}}<|action_end|>', "city='Oslo'"),
        (
            "<tool_call><function=weather><parameter=city>\nOslo\n</parameter><parameter=days>2</parameter></function>",
            2,
        ),
        ("Action: weather\nAction Input: Oslo\nObservation:", "'Oslo'"),
        ('Action: weather\nAction Input: {"city": "Oslo"}\nObservation:', "city='Oslo'"),
        ('{"name": "weather", "arguments": {"query": "Oslo"}}', "query='Oslo'"),
        ("```\nweather('Oslo')\n```", "'Oslo'"),
        ("I ask.\n\nweather('Oslo')", None),
    ],
)
def test_a_call_of_a_tool_becomes_code_in_every_form(reply: str, code: str | int | None) -> None:
    arguments = "city='Oslo', days=2" if code == 2 else code
    wanted = None if arguments is None else f"weather({arguments})"
    assert parse_reply(reply, ("weather",)).code == wanted


def test_only_a_lone_call_with_plain_values_is_one() -> None:
    names = ("search_documents",)
    assert named_call('print(search_documents("tea"))', names) == ("search_documents", ["tea"], {})
    assert named_call('search_documents(query="tea", k=[1])', names) == (
        "search_documents",
        [],
        {"query": "tea", "k": [1]},
    )
    for code in ('x = search_documents("tea")\nprint(x)', "search_documents(tea)", "search('tea')", "(("):
        assert named_call(code, names) is None
