"""``{backbones}``: the reference of every class in ``mmhybrid.models.backbones.BACKBONES``."""

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HIDDEN = 'family, arch_settings, arch_type, pretrained_parts'


class Backbones(SphinxDirective):
    """See the module. It belongs into an ``{eval-rst}`` block, since it writes reStructuredText."""

    def run(self) -> list[nodes.Node]:
        """Let autodoc document the classes."""
        from mmhybrid.models.backbones import BACKBONES  # imports torch

        lines = []
        for backbone in BACKBONES:
            lines += [
                f'.. autoclass:: mmhybrid.models.backbones.{backbone.__name__}',
                '   :members:',
                f'   :exclude-members: {HIDDEN}',
                '   :show-inheritance:',
                '',
            ]
        return self.parse_text_to_nodes(StringList(lines, source='BACKBONES'))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive('backbones', Backbones)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
