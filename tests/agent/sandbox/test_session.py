"""What a visitor's honest code can do."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.libraries import installed
from app.agent.sandbox.probe import Finding
from app.agent.sandbox.session import Session
from app.agent.sandbox.shown_paths import without_server_paths
from app.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture(scope="module")
def without_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), with_files=False)
    yield sandbox
    sandbox.close()


@pytest.fixture(params=["sandbox", "without_files"])
def session(request: pytest.FixtureRequest, finding: Finding) -> Iterator[Session]:  # noqa: ARG001
    """In both modes what needs the libraries must work."""
    session = request.getfixturevalue(request.param).open()
    yield session
    session.close()


@pytest.fixture
def bare(bare_sandbox: Sandbox) -> Iterator[Session]:
    session = bare_sandbox.open()
    yield session
    session.close()


def test_variables_live_from_cell_to_cell(bare: Session) -> None:
    bare.run("a = 20\ndef twice(x): return 2 * x")
    result = bare.run("print('thinking')\ntwice(a) + 2")
    assert (result.output, result.value, result.error) == ("thinking\n", "42", "")
    assert result.ending == "done" and not result.variables_lost


def test_an_exception_shows_the_line_and_no_path_of_the_server(session: Session) -> None:
    result = session.run("x = 1\nx / 0")
    assert result.ending == "failed"
    assert "line 2" in result.error and "x / 0" in result.error and "ZeroDivisionError" in result.error
    assert str(ROOT) not in result.error
    assert str(ROOT) not in session.run("open('/nowhere')").error
    for code in ("if 1:", "import json; json.loads('x')", "import pandas; pandas.read_csv('none')"):
        error = session.run(code).error
        assert 'File "' in error and sys.prefix not in error and sys.base_prefix not in error


def test_the_usual_libraries_work(session: Session) -> None:
    assert session.run("import sympy as s\nx = s.symbols('x')\ns.solve(x**2 - 5*x + 6, x)").value == "[2, 3]"
    assert session.run("import numpy as np\nint(np.linalg.det(np.eye(3) * 2))").value in ("7", "8")
    table = session.run(
        "import io, pandas as pd\npd.read_csv(io.StringIO('城市,人口\\n上海,2487\\n北京,2189')).sort_values('人口')"
    )
    assert "北京" in table.value and table.error == ""
    dates = session.run("import datetime as d\n(d.date(2026, 3, 1) - d.date(2026, 2, 1)).days")
    assert dates.value == "28"
    assert session.run("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(1)").value == "P(x=1)"


def test_chinese_labels_are_drawn_whatever_font_is_asked_for(session: Session) -> None:
    code = (
        "import matplotlib.pyplot as plt\n{font}\nplt.figure(figsize=(2, 1))\n"
        "plt.title('{title}', fontweight='bold')\nplt.axis('off')"
    )
    drawn = {}
    for font in ("", "plt.rcParams['font.sans-serif'] = ['SimHei']; plt.rcParams['font.family'] = 'sans-serif'"):
        for title in ("浦语", "工坊"):
            result = session.run(code.format(font=font, title=title))
            assert "Glyph" not in result.output and result.error == ""
            (drawn[font, title],) = result.images
    assert len(set(drawn.values())) >= 2
    assert drawn["", "浦语"] != drawn["", "工坊"], "missing glyphs all look alike"
    assert all(image.startswith(b"\x89PNG") for image in drawn.values())


def test_files_go_in_and_come_out(sandbox: Sandbox, tmp_path: Path) -> None:
    if not sandbox.with_files:
        pytest.skip("nothing can be opened")
    session = sandbox.open()
    (tmp_path / "numbers.csv").write_text("a\n1\n2\n")
    session.add_file(tmp_path / "numbers.csv", "../numbers.csv")
    result = session.run(
        "import pandas as pd\npd.read_csv('numbers.csv').to_csv('out.csv')\nopen('numbers.csv').read()"
    )
    assert result.value == repr("a\n1\n2\n")
    assert [path.name for path in session.files()] == ["numbers.csv", "out.csv"]
    session.close()
    assert not session.folder.exists()


def test_notebook_habits(bare: Session) -> None:
    result = bare.run("!pip install seaborn\nprint('on')")
    assert "Nothing can be installed" in result.output and "numpy" in result.output and "on\n" in result.output
    assert "no shell" in bare.run("!ls").output
    assert bare.run("from IPython.display import display, Markdown\ndisplay(6 * 7)\ndisplay(Markdown('x'))").output == (
        "42\nx\n"
    )
    assert "no shell" in (told := bare.run("%%bash\nls -l\nif true; then ls; fi")).output and not told.error
    assert "no shell" in bare.run("files = !ls\nfiles").output
    assert "built-in function len" in bare.run("len?").output and "built-in function len" in bare.run("?len").output
    assert (
        bare.run("get_ipython().run_line_magic('matplotlib', 'inline')\nget_ipython().events.register(1, 2)").value
        == ""
    )
    for leaving in ("exit()\nprint('b')", "quit()", "raise SystemExit", "exit"):
        result = bare.run(f"print('a')\n{leaving}")
        assert (result.ending, result.output, result.value, result.variables_lost) == ("done", "a\n", "", False)
    assert "write the values into the code" in bare.run("input('Name?')").error
    for installing in ("import os\nos.system('pip install seaborn')", "%pip install seaborn"):
        assert "Nothing can be installed" in bare.run(installing).output
    assert bare.run("import importlib.util\nfrom IPython.display import HTML, IFrame\nHTML('x')").value == "'x'"
    assert not bare.run("importlib.util.find_spec('IPython').submodule_search_locations").error
    assert "cannot be installed" in bare.run("import seaborn").error
    assert bare.run("x = (7\n% 4)\nx").value == "3", "what is Python already is left alone"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("!pip install \\\n  seaborn \\\n  torch\nprint('on')", "on"),
        ("print('on'); !ls", "on\n这里只能运行 Python"),
        ("if True:\n    print('on'); !ls", "on\n这里只能运行 Python"),
        ("str.upper()?", "uppercase"),
        ("$ pip install seaborn", "Nothing can be installed"),
        ("uv pip install seaborn", "Nothing can be installed"),
        ("sudo apt-get -y install x", "Nothing can be installed"),
        ("cd data", "no shell"),
        ("files = !ls *.csv\nfor f in files: print(f)\nprint(len(files))", "no other magics.\n0\n"),
        ('%matplotlib inline\nprint("""a\n%d items\n!x""" % 3)', "a\n3 items\n!x\n"),
        ("# it's\n!echo it's\nprint('''\n!x''')", "\n\n!x\n"),
        ("ls = 3\n!ls\nprint(ls if ls else 0)", "magics.\n3\n"),
        ("%time print('on', \\\n  1)", "on 1"),
    ],
)
def test_a_shells_lines_become_words_and_strings_stay(bare: Session, code: str, said: str) -> None:
    result = bare.run(code)
    assert said in result.output and not result.error, result


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import torch", "No module named 'torch'"),
        ("try: import torch\nexcept ImportError as error: raise ImportError('first install it') from error", "install"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])", "no threads"),
        ("import threading\nthreading.Thread(target=print).start()", "no threads"),
        ("import socket\nsocket.socket()", "no network"),
    ],
)
def test_an_error_of_what_is_not_there_says_what_there_is(bare: Session, code: str, said: str) -> None:
    result = bare.run(code)
    assert said in result.error and result.error.endswith(f"the standard library, {', '.join(installed())}.")
    assert "Available" not in bare.run("1 / 0").error


def test_a_package_that_is_installed_but_not_offered_does_not_exist(session: Session) -> None:
    for name in ("torch", "gradio", "tabs", "pytest"):
        found = session.run(f"import importlib.util\nprint(importlib.util.find_spec({name!r}))\nimport {name}")
        assert found.output == "None\n" and f"ModuleNotFoundError: No module named '{name}'" in found.error


def test_a_value_and_a_picture_are_both_shown(sandbox: Sandbox) -> None:
    session = sandbox.open()
    result = session.run("import pandas as pd\nframe = pd.DataFrame({'a': [5]})\nframe.plot()\nframe")
    assert len(result.images) == 1 and "5" in result.value
    styled = session.run("display(frame.style)\nframe.style.format('{:.1f}')")
    assert "5" in styled.output and "5.0" in styled.value
    for chart in ("plt.plot([1, 2])", "plt.subplots(2, 2)[1]", "plt.hist([1, 2])", "display(plt.figure())"):
        result = session.run(f"import matplotlib.pyplot as plt\n{chart}")
        assert (len(result.images), result.value) == (1, ""), chart
    session.close()


@pytest.mark.parametrize(
    "code",
    [
        "import os, sys\nprint(os.getcwd(), os.path.abspath('a'), os.path.dirname(os.getcwd()), sys.prefix, sys.path)",
        "import traceback, json\ntry: json.loads('x')\nexcept ValueError: traceback.print_exc()",
        "import json\njson.loads('x')",
        "import json\n(json.__file__, __import__('os').environ['HOME'])",
        "import asyncio\nasyncio.get_event_loop_policy().get_event_loop()",
        "open('/nowhere')",
        "import os\ndict(os.environ)",
        "if 1:",
    ],
)
def test_no_path_of_the_server_is_shown(bare: Session, code: str) -> None:
    result = bare.run(code)
    shown = result.output + result.value + result.error
    assert shown
    for secret in (
        str(ROOT),
        sys.prefix,
        sys.base_prefix,
        os.path.realpath(os.__file__),
        str(bare.folder.parent.parent),
    ):
        assert secret not in shown
    assert bare.run("import os\nopen(os.path.abspath('a'), 'w').write('1')").ending in ("done", "failed")


def test_an_interrupted_loop_keeps_its_variables(bare: Session) -> None:
    bare.run("kept = 7")
    result = bare.run("print('started')\nwhile True: pass")
    assert (result.ending, result.output, result.variables_lost) == ("too slow", "started\n", False)
    assert bare.run("kept").value == "7"


def test_cancelling_ends_a_cell_at_once(session: Session) -> None:
    looks = iter(range(3))
    result = session.run("while True: pass", cancelled=lambda: next(looks, None) is None)
    assert result.ending == "stopped", "it went on until its own limit"


def test_closing_ends_a_running_cell(session: Session) -> None:
    endings = []
    runner = threading.Thread(target=lambda: endings.append(session.run("while True: pass").ending))
    runner.start()
    session.close()
    runner.join(120)
    assert endings == ["stopped"]
    assert session.run("1").ending == "stopped"


def test_reset_forgets_variables(bare: Session) -> None:
    bare.run("x = 1")
    bare.reset()
    assert "NameError" in bare.run("x").error


def test_sessions_draw_different_random_numbers(sandbox: Sandbox) -> None:
    drawn = set()
    for _ in range(3):
        session = sandbox.open()
        drawn.add(session.run("import random, numpy\n(random.random(), numpy.random.rand())").value)
        session.close()
    assert len(drawn) == 3


def test_a_dead_fork_server_is_replaced(bare_sandbox: Sandbox) -> None:
    first = bare_sandbox.open()
    parent = int(first.run("import os; os.getppid()").value)
    os.kill(parent, 9)
    second = bare_sandbox.open()
    assert second.run("1 + 1").value == "2"
    first.close()
    second.close()


def test_leftovers_of_a_dead_server_are_cleared(finding: Finding, tmp_path: Path) -> None:
    if finding.mode != "files":
        pytest.skip("needs files")
    code = (
        "import os, sys; from pathlib import Path; from app.agent.sandbox.host import Sandbox;"
        "session = Sandbox(Path(sys.argv[1]), bare=True).open(); print(session.folder, flush=True); os._exit(0)"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    left = Path(died.stdout.strip())
    assert left.exists()
    sandbox = Sandbox(tmp_path, bare=True)
    sandbox.start()
    assert not left.exists()
    sandbox.close()


def test_a_data_folder_with_a_short_name_takes_nothing_from_other_addresses() -> None:
    said = "https://example.org/data/1.csv /database 1/data /data/agent/s1/a.csv /data/agent file:///data/x"
    shown = "https://example.org/data/1.csv /database 1/data ./a.csv .. file://../../x"
    assert without_server_paths(said, Path("/data/agent/s1")) == shown
