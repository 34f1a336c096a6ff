from typing import Any

import pubsub
from pubsub import Publication
from tests.browser.members.models import Note, Notice, Remark


@pubsub.register(Note)
class NotePublication(Publication):
    access = "private"

    def get_nodes(self, instance: Note, event: str) -> str:
        return instance.node


@pubsub.register(Notice)
class NoticePublication(Publication):
    access = "private"


@pubsub.register(Remark)
class RemarkPublication(Publication):
    access = "private"
    publish_model = "members"


@pubsub.authorize("/members/Note/<int:pk>")
def owns(user: Any, pk: int) -> bool:
    return bool(user.pk == pk)


@pubsub.authorize("/members/Notice", "/members/Remark")
def may_view_notices(user: Any) -> bool:
    return bool(user.has_perm("members.view_notice"))
