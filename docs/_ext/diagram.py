"""``{diagram} NAME``: docs/images/diagrams/NAME.svg inside the page, in the page's own colours."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).resolve().parents[1] / 'images' / 'diagrams'


class Diagram(SphinxDirective):
    """See the module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Put in the file's text."""
        path = FOLDER / f'{self.arguments[0]}.svg'
        if not path.is_file():
            raise self.error(f'no {path}: python docs/draw.py draws it')
        self.env.note_dependency(str(path))
        return [nodes.raw('', f'<div class="diagram">{path.read_text()}</div>', format='html')]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive('diagram', Diagram)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
