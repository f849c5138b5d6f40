"""Word markup (WordprocessingML) as its reader sees it: deletions gone, moves done, fields as their results, phonetic
guides without readings, text boxes as paragraphs behind the one they hang on."""

from typing import Any

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
STRICT = b"http://purl.oclc.org/ooxml/wordprocessingml/main"
COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
GONE = ("del", "moveFrom", "rt", "delText", "delInstrText")  # what the page does not show
OPENED = ("ins", "moveTo", "fldSimple", "ruby", "rubyBase", "smartTag", "dir", "bdo")  # shown as what is in them
MARKS = ("rPr", "trPr", "tcPr", "ctrlPr", "numPr")  # a change in one of these is of a paragraph's or a row's mark
SHOWN = ("t", "tab", "br", "sym", "noBreakHyphen")
LIKE = {"cr": "br", "ptab": "tab"}


def as_shown(part: bytes) -> bytes:
    """The XML of a document's body, a header, a footer, notes or comments."""
    from lxml import etree

    root = etree.fromstring(part.replace(STRICT, W[1:-1].encode()), etree.XMLParser(resolve_entities=False))
    for each in _all(root, "AlternateContent", namespace=COMPATIBLE):
        _open(_chosen(each))
    for each in _all(root, *GONE):
        if _name(each.getparent()) not in MARKS:
            _remove(each)
    for mark, whole in (("trPr/{0}del", "tr"), ("tcPr/{0}cellDel", "tc")):
        for each in _all(root, whole):
            if each.find(f"{W}{mark.format(W)}") is not None:
                _remove(each)
    _drop_instructions(root)
    for each in _all(root, *OPENED):
        if _name(each.getparent()) not in MARKS:
            _open(each)
    for each in _all(root, *LIKE):
        each.tag = W + LIKE[_name(each)]
    for each in _all(root, "gridBefore"):
        _begin_later(each)
    _lift_boxes(root)
    shown: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)
    return shown


def _all(root: Any, *names: str, namespace: str = W) -> list[Any]:
    return list(root.iter(*(namespace + name for name in names)))


def _name(element: Any) -> str:
    return "" if element is None else str(element.tag).rpartition("}")[2]


def _remove(element: Any) -> None:
    if element.getparent() is not None:
        element.getparent().remove(element)


def _open(element: Any) -> None:
    """Put what is in an element in its place."""
    parent = element.getparent()
    if parent is not None:
        at = parent.index(element)
        parent[at : at + 1] = list(element)


def _chosen(alternatives: Any) -> Any:
    """Of several forms of the same thing the one with its text; the last is what older programs show."""
    forms = [each for each in alternatives if _name(each) in ("Choice", "Fallback")]
    with_text = (each for each in forms if next(each.iter(f"{W}txbxContent"), None) is not None)
    kept = next(with_text, forms[-1] if forms else None)
    alternatives[:] = [] if kept is None else list(kept)
    return alternatives


def _drop_instructions(root: Any) -> None:
    """Of fields only the result is shown, of a list to choose from what was chosen."""
    shows_result: list[bool] = []  # of the fields around
    for each in _all(root, "fldChar", *SHOWN):
        if each.tag != f"{W}fldChar":
            if not all(shows_result):
                _remove(each)
            continue
        kind = each.get(f"{W}fldCharType")
        if kind == "begin":
            shows_result.append(False)
            _show_choice(each)
        elif shows_result:
            shows_result.pop()
            shows_result += [True] if kind == "separate" else []


def _show_choice(begin: Any) -> None:
    choices = begin.findall(f".//{W}ddList/{W}listEntry")
    chosen = begin.find(f".//{W}ddList/{W}result")
    number = chosen.get(f"{W}val", "0") if chosen is not None else "0"
    if number.isdecimal() and int(number) < len(choices):
        text = begin.makeelement(f"{W}t")
        text.text = choices[int(number)].get(f"{W}val")
        begin.addnext(text)


def _begin_later(before: Any) -> None:
    """Put an empty cell over the columns that a row leaves free at its beginning."""
    row = before.getparent().getparent()
    first = row.find(f"{W}tc")
    if first is not None:
        cell = row.makeelement(f"{W}tc")
        properties = cell.makeelement(f"{W}tcPr")
        properties.append(cell.makeelement(f"{W}gridSpan", {f"{W}val": before.get(f"{W}val", "1")}))
        cell.append(properties)
        first.addprevious(cell)


def _lift_boxes(root: Any) -> None:
    last: dict[Any, Any] = {}  # paragraph -> what was put behind it last
    for box in _all(root, "txbxContent"):
        paragraph = next(box.iterancestors(f"{W}p"), None)
        if paragraph is None:
            continue
        for part in list(box):
            last.get(paragraph, paragraph).addnext(part)
            last[paragraph] = part
        _remove(box)
