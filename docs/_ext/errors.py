"""``{errors}``: the list that docs/error_messages.py makes of the code and of docs/errors.yml."""

from docutils import nodes
from docutils.statemachine import StringList
from error_messages import SOURCE, page
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Errors(SphinxDirective):
    """See the module."""

    def run(self) -> list[nodes.Node]:
        """Read the code, and let the page's own parser read the result."""
        self.env.note_dependency(str(SOURCE))
        self.env.note_reread()
        container = nodes.section()
        self.state.nested_parse(StringList(page().splitlines(), str(SOURCE)), 0, container, True)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive('errors', Errors)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
