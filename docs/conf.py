"""The site: `make docs` builds it into docs/_build/html, and every warning is an error."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / '_ext')]

from mmhybrid import __version__  # noqa: E402

project = 'mmhybrid'
author = 'the mmhybrid authors'
copyright = author
release = version = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    'backbones',
    'diagram',
    'errors',
    'mathml',
    'tables',
]
exclude_patterns = ['_build']
nitpicky = True
# Types of other libraries: their documentation is elsewhere, and a build needs no network.
nitpick_ignore_regex = [(r'py:(class|func|obj|exc|meth|data)', r'(?!mmhybrid\.).*')]

# Pages are MyST Markdown. Every heading can be linked to, as PAGE.md#its-words.
myst_enable_extensions = ['attrs_block', 'attrs_inline', 'colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3
myst_links_external_new_tab = False

# The API: arguments stand in Google style, types in the signatures.
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_class_signature = 'mixed'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [('Shapes', 'returns_style')]
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = 'hide'

# Commands are copied without their comments' alignment being touched; blocks carry no prompts.
copybutton_exclude = '.linenos, .gp, .go'

html_theme = 'furo'
html_title = f'mmhybrid {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_js_files = ['errors.js']
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options = dict(
    light_css_variables={
        'font-stack': 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif',
        'font-stack--monospace': 'ui-monospace, SFMono-Regular, Menlo, Consolas, monospace',
    },
    navigation_with_keys=True,
)

# `make docs-links` looks at what lies outside; nobody's server is asked by `make docs`.
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_workers = 4


def escape_marks(app, what, name, obj, options, lines: list[str]) -> None:
    """In `width: * of the stem` the star is a mark that the docstring explains, not a list."""
    lines[:] = [re.sub(r'^( +\w[\w, ]*: )\* ', r'\1\\* ', line) for line in lines]


def setup(app) -> None:
    """Before napoleon reads the docstrings."""
    app.connect('autodoc-process-docstring', escape_marks, priority=100)
