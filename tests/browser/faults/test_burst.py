"""Very many items at once."""

from tests.browser.faults.judge import right


def test_after_10_000_items_at_once_and_after_the_end_of_all_of_them_screens_are_right(
    demo, editor, site
):
    pages = [demo("?transport=websocket"), demo("?transport=bosh")]
    for act in (lambda: editor.burst(10_000), editor.clear):
        act()
        for page in pages:
            right(page, site, seconds=60)
