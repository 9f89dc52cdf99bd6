import json

import pytest

from mmhybrid.data.coco import DataError, check_class_names, read_categories


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / 'annotations.json'

    def write(*names, text=None):
        content = dict(
            info=dict(description='"categories": [of things]'),
            categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)],
            images=[],
            annotations=[],
        )
        path.write_text(json.dumps(content, indent=1) if text is None else text)
        return path

    return write


def test_categories_are_read_in_the_order_of_the_file(annotations):
    assert read_categories(annotations('car', 'bus', 'tram')) == ['car', 'bus', 'tram']


def test_files_that_are_no_annotations(annotations, tmp_path):
    with pytest.raises(DataError, match='not found: .*nowhere.json'):
        read_categories(tmp_path / 'nowhere.json')
    with pytest.raises(DataError, match='not a complete JSON object'):
        read_categories(annotations(text='{"categories": [{"name": "car"}], "images": ['))
    with pytest.raises(DataError, match='no "categories"'):
        read_categories(annotations(text='{"images": []}'))


def test_files_and_names_that_are_no_text(annotations):
    path = annotations('café')
    path.write_bytes('{"categories": [{"id": 1, "name": "café"}]}'.encode('latin-1'))
    with pytest.raises(DataError, match='annotations.json is not in UTF-8 .byte 0xe9 at pos.* 38'):
        read_categories(path)
    with pytest.raises(DataError, match='annotations.json that are no text: 7, None; write each'):
        read_categories(annotations('car', 7, None))
    with pytest.raises(DataError, match='names in the config that are no text: 7'):
        check_class_names([7], annotations('7'))


def test_class_names_that_do_not_match_are_listed(annotations):
    path = annotations('car', 'bus')
    check_class_names(['car', 'bus'], path)
    check_class_names(['bus'], path)
    with pytest.raises(DataError, match='(?s)not in the file: Car, tram.*config: Car.*file: *car'):
        check_class_names(['Car', 'bus', 'tram'], path)
    with pytest.raises(DataError, match='another order'):
        check_class_names(['bus', 'car'], path)
