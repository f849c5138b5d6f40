"""What people do with data: files of every usual kind, charts, and the libraries' usual ways."""

import sys

import pytest

from app.agent.sandbox.host import Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

HONEST = {
    "CSV": "import pandas as pd\npd.DataFrame({'a': [1]}).to_csv('a.csv')\nint(pd.read_csv('a.csv').a.sum())",
    "JSON": "import pandas as pd\npd.DataFrame({'a': [1]}).to_json('a.json')\nint(pd.read_json('a.json').a.sum())",
    "Excel": "import pandas as pd\npd.DataFrame({'a': [1]}).to_excel('a.xlsx')\nint(pd.read_excel('a.xlsx').a.sum())",
    "Parquet": "import pandas as pd\npd.DataFrame({'a': [1]}).to_parquet('a.pq')\nint(pd.read_parquet('a.pq').a.sum())",
    "a part of a Parquet file": (
        "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': [3, 4]}, index=['x', 'y']).to_parquet('a.pq')\n"
        "part = pd.read_parquet('a.pq', columns=['b'], filters=[('a', '>', 1)])\n"
        "int((list(part.index), list(part), list(part.b)) == (['y'], ['b'], [4]))"
    ),
    "tables of PyArrow": (
        "import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq\n"
        "pq.write_table(pa.table({'a': [2, 1, 1]}), 'a.pq')\ntable = pq.ParquetFile('a.pq').read().sort_by('a')\n"
        "groups = table.group_by('a').aggregate([('a', 'count')])\n"
        "len(pq.read_table('a.pq').filter(pc.field('a') > 1).to_pandas()) if len(groups) == 2 else 0"
    ),
    "a CSV file that pandas would read by threads": (
        "import pandas as pd\nopen('a.csv', 'w').write('a,b\\n' + '1,2\\n' * 3_000_000)\n"
        "pd.read_csv('a.csv').shape[0] // 3_000_000"
    ),
    "another parser of CSV": (
        "import pandas as pd\nopen('a.csv', 'w').write('a\\n1')\nint(pd.read_csv('a.csv', engine='pyarrow').a[0])"
    ),
    "as many workers as processors": (
        "import numpy, scipy.fft, scipy.spatial\nscipy.fft.fft2(numpy.ones((64, 64)), workers=-1)\n"
        "scipy.spatial.cKDTree([[0, 0], [1, 1]]).query([[1, 1]], workers=-1)[1].item()"
    ),
    "Markdown": "import pandas as pd\nlen(pd.DataFrame({'a': [1]}).to_markdown().splitlines()[:1])",
    "charts in files": (
        "import matplotlib.pyplot as plt\nplt.title('销量')\n"
        "for kind in ('png', 'svg', 'pdf', 'eps', 'jpg'): plt.savefig('chart.' + kind)\n"
        "import os\nint(os.path.getsize('chart.pdf') > 1000)"
    ),
    "a curve of sympy": "import sympy\nsympy.plot(sympy.symbols('x') ** 2, show=False).save('a.png')\n1",
    "scipy": "import scipy.optimize\nround(scipy.optimize.brentq(lambda x: x - 1, 0, 3))",
    "networkx": "import networkx\nnetworkx.shortest_path_length(networkx.path_graph(2), 0, 1)",
    "time zones": "import pandas as pd\nlen(pd.date_range('2024-01-01', periods=1, tz='Asia/Shanghai'))",
    "asyncio": "import asyncio\nasync def one(): return 1\nasyncio.run(one())",
    "awaiting": "async def one(): return 1\ntwo = await one()\nawait one()",
    "temporary and copied files": (
        "import shutil, tempfile\nwith tempfile.NamedTemporaryFile('w') as file: print('x', file=file)\n"
        "open('a', 'w').close()\nshutil.copy2('a', 'b')\n1"
    ),
    "sympy's printing": "import sympy\nsympy.init_printing()\nsympy.Integer(1)",
    "a picture of a file": (
        "import matplotlib.pyplot as plt\nfrom IPython.display import Image, display\nplt.plot([1])\n"
        "plt.savefig('a.jpg')\ndisplay(Image('a.jpg'))\n1"
    ),
    "an encoding": "open('a', 'w', encoding='gb18030').write('浦')",
    "magics": "%matplotlib inline\nfor i in range(1):\n    %timeit -n 10 i\n1",
    "an optional package that is not there": (
        "try:\n    import zstandard\nexcept ImportError: pass\nimport importlib.util\n"
        "1 if importlib.util.find_spec('torch') is None else 0"
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_people_do_with_data_works(sandbox: Sandbox, name: str) -> None:
    if not sandbox.with_files:
        pytest.skip("nothing can be opened")
    session = sandbox.open()
    result = session.run(HONEST[name])
    session.close()
    assert (result.value, result.error) == ("1", "")
