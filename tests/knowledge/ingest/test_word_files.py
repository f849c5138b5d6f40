"""Word files to Markdown: what a reader sees of them, and nothing else."""

import io

import docx
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from docx.text.paragraph import Paragraph

from tests.knowledge.ingest.conftest import Read
from tests.knowledge.ingest.made_files import word


def test_word_headers_footers_comments_and_tracked_changes(read: Read) -> None:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Header osprey"
    document.sections[0].footer.paragraphs[0].text = "Footer bittern"
    run = document.add_paragraph("The pump is blue.").runs[0]
    document.add_comment(run, text="Is it?", author="Ann")
    changed = document.add_paragraph("The price is ")._p
    for tag, text, inner in (("del", "delText", "one"), ("ins", "t", "two"), ("moveTo", "t", " moved")):
        changed.append(parse_xml(f"<w:{tag} {nsdecls('w')} w:id='9'><w:r><w:{text}>{inner}</w:{text}></w:r></w:{tag}>"))
    stream = io.BytesIO()
    document.save(stream)
    content = read("a.docx", stream.getvalue()).content
    assert content.startswith("Header osprey\n") and content.endswith("Footer bittern")
    assert "> Ann: Is it? [The pump is blue.]" in content
    assert "The price is two moved" in content and "one" not in content


SPACES = """xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"
 xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" xmlns:v="urn:schemas-microsoft-com:vml"
 xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"
 xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"
 xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" """


def add(paragraph: Paragraph, *runs: str) -> None:
    """Put markup of runs, or of what may stand beside them, behind a paragraph's text."""
    for run in runs:
        whole = run if run.startswith(("<w:fldSimple", "<w:del", "<w:bdo", "<w:r>")) else f"<w:r>{run}</w:r>"
        paragraph._p.append(parse_xml(whole.replace(">", f" {SPACES}>", 1)))


def field(instruction: str, *result: str) -> list[str]:
    told = f'<w:instrText xml:space="preserve"> {instruction} </w:instrText>'
    return [BEGIN, told, SEPARATE, *result, END]


BEGIN, SEPARATE, END = (f'<w:fldChar w:fldCharType="{kind}"/>' for kind in ("begin", "separate", "end"))


def boxed(text: str) -> str:
    return f"<w:txbxContent><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:txbxContent>"


def new_box(text: str) -> str:
    """A text box as Word writes it since 2010."""
    shape = f"<wps:wsp><wps:txbx>{boxed(text)}</wps:txbx></wps:wsp>"
    return (
        f"<w:drawing><wp:anchor><a:graphic><a:graphicData>{shape}</a:graphicData></a:graphic></wp:anchor></w:drawing>"
    )


def old_box(text: str) -> str:
    return f"<w:pict><v:shape><v:textbox>{boxed(text)}</v:textbox></v:shape></w:pict>"


def both(text: str) -> str:
    fallback = f"<mc:Fallback>{old_box(text)}</mc:Fallback>"
    return f'<mc:AlternateContent><mc:Choice Requires="wps">{new_box(text)}</mc:Choice>{fallback}</mc:AlternateContent>'


def test_text_boxes_stand_once_behind_the_paragraph_they_hang_on(read: Read) -> None:
    document = docx.Document()
    add(document.add_paragraph("Before."), both("Box one"), new_box("Box two"), old_box("Box three"))
    document.add_paragraph("After.")
    add(document.sections[0].header.paragraphs[0], both("In the header"))
    content = read("a.docx", word(document)).content
    assert content == "In the header\n\nBefore.\n\nBox one\n\nBox two\n\nBox three\n\nAfter."


def test_of_fields_the_result_is_shown(read: Read) -> None:
    document = docx.Document()
    nested = [BEGIN, "<w:instrText> IF </w:instrText>", *field("MERGEFIELD x", "<w:t>inner</w:t>"), SEPARATE]
    add(document.add_paragraph("Due "), *nested, "<w:t>today</w:t>", END, *field("REF a", "<w:t>, page 3</w:t>"))
    add(document.add_paragraph("See "), '<w:fldSimple w:instr="REF b"><w:r><w:t>annex B</w:t></w:r></w:fldSimple>')
    colours = '<w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/><w:listEntry w:val="blue"/></w:ddList>'
    chosen = f'<w:fldChar w:fldCharType="begin"><w:ffData>{colours}</w:ffData></w:fldChar>'
    add(document.add_paragraph("Paint: "), chosen, "<w:instrText> FORMDROPDOWN </w:instrText>", END)
    add(document.add_paragraph("Site: "), *field('HYPERLINK "http://e.org/"', "<w:t>here</w:t>"))
    add(document.sections[0].footer.paragraphs[0], *nested, "<w:t>Foot</w:t>", END)
    content = read("a.docx", word(document)).content
    assert content == "Due today, page 3\n\nSee annex B\n\nPaint: blue\n\nSite: [here](http://e.org/)\n\nFoot"


def test_readings_of_characters_are_left_out(read: Read) -> None:
    document = docx.Document()
    reading, base = (f"<w:r><w:t>{text}</w:t></w:r>" for text in ("とうきょう", "東京"))
    ruby = f"<w:ruby><w:rt>{reading}</w:rt><w:rubyBase>{base}</w:rubyBase></w:ruby>"
    add(document.add_paragraph("首都は"), ruby, "<w:t>です。</w:t>")
    add(document.sections[0].header.paragraphs[0], ruby)
    assert read("a.docx", word(document)).content == "東京\n\n首都は東京です。"
    page = "<p>首都は<ruby>東京<rp>(</rp><rt>とうきょう</rt><rp>)</rp></ruby>です。</p>"
    assert read("a.html", page.encode()).content == "首都は東京です。"


def test_notes_stand_below_and_deletions_nowhere(read: Read) -> None:
    document = docx.Document()
    mark = '<w:{0}Reference w:id="2"/>'
    gone = '<w:del w:id="9"><w:r><w:delText>gone</w:delText></w:r></w:del>'
    add(document.add_paragraph("The pump is blue"), gone, mark.format("footnote"), mark.format("endnote"))
    add(document.sections[0].header.paragraphs[0], "<w:t>Head</w:t>", gone)
    table = document.add_table(2, 2)
    for cell, text in zip(table.rows[0].cells, ("kept", "row"), strict=True):
        cell.text = text
    table.rows[1].cells[0].text = "deleted row"
    table.rows[1]._tr.get_or_add_trPr().append(parse_xml(f"<w:del {nsdecls('w')} w:id='7'/>"))
    note = f"<w:{{0}}s {SPACES}><w:{{0}} w:id='2'><w:p><w:r><w:t>{{1}}</w:t></w:r>{gone}</w:p></w:{{0}}></w:{{0}}s>"
    notes = {"footnotes": note.format("footnote", "Since 1990."), "endnotes": note.format("endnote", "See the annex.")}
    content = read("a.docx", word(document, **notes)).content
    assert content.startswith("Head\n\nThe pump is blue¹²\n\n") and "1. Since 1990.\n2. See the annex." in content
    assert "gone" not in content and "deleted row" not in content and "↑" not in content


def test_text_in_one_direction_and_its_line_breaks_are_kept(read: Read) -> None:
    document = docx.Document()
    add(
        document.add_paragraph("Code "),
        '<w:bdo w:val="ltr"><w:r><w:t>A-7</w:t></w:r></w:bdo>',
        "<w:cr/><w:t>next</w:t>",
    )
    assert read("a.docx", word(document)).content.split() == ["Code", "A-7", "next"]
