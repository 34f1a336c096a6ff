"""Very many items at once."""

from tests.browser.faults.judge import right


def test_after_a_burst_of_10_000_items_the_screens_are_right(demo, editor, site):
    pages = [demo("?transport=websocket"), demo("?transport=bosh")]
    editor.burst(10)
    for page in pages:
        right(page, site, seconds=60)
