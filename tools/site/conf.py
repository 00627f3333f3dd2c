"""Sphinx's settings for the site of the pages. `python -m tools.site` writes the source that they are for."""

project = "Interlock"
html_title = "Interlock"
language = "en"
root_doc = "index"
extensions = ["myst_parser"]

myst_heading_anchors = 6
# Pages have the headings that readers need, and examples the code that they show, whatever a lexer makes of it.
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
# Two dashes belong to a command.
smartquotes = False

html_theme = "furo"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
