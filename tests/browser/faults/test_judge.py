"""The judge sees what is wrong, or no other test here would prove anything."""

import pytest

from tests.browser.faults.judge import right

HARM = {
    "not shown: Row": "(list) => list.children[1].remove()",
    "shown again: Row": "(list) => list.append(list.children[1].cloneNode(true))",
    "shown, not stored: .*old": "(list) => list.querySelector('.message').replaceChildren('old')",
    "wrong order: ": "(list) => list.prepend(list.children[1])",
}


def test_a_wrong_screen_and_a_right_one_that_does_not_know_it_are_told(demo, editor, site):
    editor.stir("to be shown")
    page = demo()
    right(page, site)
    rows = page.locator("#statuses")
    before = rows.inner_html()
    for words, harm in HARM.items():
        rows.evaluate(harm)
        with pytest.raises(AssertionError, match=words):
            right(page, site, seconds=0)
        rows.evaluate("(list, before) => { list.innerHTML = before; }", before)
        right(page, site)
    page.locator("#connection").evaluate("(shown) => { shown.dataset.state = 'offline'; }")
    with pytest.raises(AssertionError, match="offline\nno difference"):
        right(page, site, seconds=0)
