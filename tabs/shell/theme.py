"""Gradio theme: colours, fonts, shapes; the rest of the look is in assets/studio.css."""

import gradio as gr
from gradio.themes.utils.colors import Color

# Fonts of the visitor's own system, Latin before Chinese, whose quotes are too wide for English: nothing is fetched.
TEXT_FONTS = (
    "Inter",
    "-apple-system",
    "Segoe UI",
    "Helvetica Neue",
    "Noto Sans",
    "Liberation Sans",
    "Arial",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "WenQuanYi Micro Hei",
    "sans-serif",
)
CODE_FONTS = ("SF Mono", "Cascadia Code", "Consolas", "Noto Sans Mono", "DejaVu Sans Mono", "monospace")

INDIGO = Color(
    c50="#eef3fd",
    c100="#dce6fb",
    c200="#bdd0f7",
    c300="#93b1f0",
    c400="#648be6",
    c500="#3f69d8",
    c600="#2f54bf",
    c700="#28459b",
    c800="#253d7f",
    c900="#23366a",
    c950="#172242",
    name="indigo",
)
PAPER = Color(
    c50="#fafaf8",
    c100="#f3f3ef",
    c200="#e6e6e0",
    c300="#d2d2ca",
    c400="#a3a39b",
    c500="#6b6b65",
    c600="#575752",
    c700="#3d3d3a",
    c800="#28282a",
    c900="#1c1c1f",
    c950="#131316",
    name="paper",
)


def studio_theme() -> gr.themes.Base:
    """The theme of the whole application."""
    theme = gr.themes.Base(
        primary_hue=INDIGO,
        secondary_hue=INDIGO,
        neutral_hue=PAPER,
        radius_size="lg",
        text_size="md",
        spacing_size="md",
        font=list(TEXT_FONTS),
        font_mono=list(CODE_FONTS),
    )
    return theme.set(
        body_background_fill="#fafaf8",
        body_background_fill_dark="#131316",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1c1c1f",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0",
        block_label_text_color="*neutral_500",
        block_label_text_color_dark="*neutral_400",
        block_title_text_weight="500",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1c1c1f",
        input_border_color="*neutral_200",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_400",
        input_border_color_focus_dark="*primary_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_400",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="#28282a",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_200",
        button_secondary_border_color_dark="*neutral_700",
        button_transition="background-color .15s ease, border-color .15s ease",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
    )
