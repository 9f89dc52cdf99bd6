"""Links between pages and to files; the build of the site checks them once more."""

import json
import re

import pytest

import mmhybrid
from tests.docs.pages import DOCS, ROOT, pages, prose

LINK = re.compile(r'\]\(([^)\s]+)\)')


def anchor(heading):
    """What a heading is linked by, as GitHub and MyST make it."""
    words = re.sub(r'[`*]|\[|\]\([^)]*\)', '', heading).strip().lower()
    return re.sub(r'[^\w\- ]', '', words).replace(' ', '-')


def anchors(page):
    return {anchor(words) for words in re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)}


@pytest.mark.parametrize('page', pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    for target in LINK.findall(prose(page)):
        if '://' in target:
            continue
        path, _, part = target.partition('#')
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f'{target} is not there'
        if part:
            assert part in anchors(linked), f'{path} has no heading #{part}'


def test_every_page_is_in_the_tree():
    listed = {DOCS / 'index.md'}
    for page in pages():
        for tree in re.findall(r'```\{toctree\}\n(.*?)```', page.read_text(), re.DOTALL):
            names = [line for line in tree.splitlines() if line and not line.startswith(':')]
            names = [re.sub(r'.*<(.+)>', r'\1', name) for name in names]
            listed |= {(page.parent / f'{name}.md').resolve() for name in names}
    assert {page for page in pages() if DOCS in page.parents} == listed


def test_counts_are_of_all_backbones():
    counts = json.loads((DOCS / 'counts.json').read_text())
    assert list(counts) == mmhybrid.list_backbones(), 'run python docs/count.py --keep-counts'
    for name in ('cmt_ti', 'cvt_13', 'vit_t', 'vitadapter_t', 'vitcomer_t'):
        model = mmhybrid.build_backbone(name)
        assert counts[name]['params'] == sum(p.numel() for p in model.parameters())
        assert counts[name]['channels'] == list(model.out_channels)
        assert counts[name]['strides'] == list(model.out_strides)
