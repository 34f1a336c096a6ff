"""Pages with private lists, and a way for tests to change what is on them."""

import json
from typing import Any

from django.contrib.auth import login
from django.contrib.auth.models import Permission, User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt

import pubsub
from tests.browser.members.models import Note, Notice


def home(request: HttpRequest) -> HttpResponse:
    """The notes of a user (``?of=ada``), as far as they are the visitor's, and the notices."""
    owner = User.objects.get(username=request.GET.get("of") or request.user.get_username() or "ada")
    context: dict[str, Any] = {
        "node": f"/members/Note/{owner.pk}",
        "notes": Note.objects.filter(owner=owner) if owner == request.user else [],
        "notices": Notice.objects.all() if request.user.has_perm("members.view_notice") else [],
    }
    return render(request, "members/home.html", context)


def prebound(request: HttpRequest) -> HttpResponse:
    """A page with a session that the server has opened for the user."""
    session = pubsub.prebind(request.user)
    context = {"session": session._asdict(), "node": f"/members/Note/{request.user.pk}"}
    return render(request, "members/prebound.html", context)


def log_in(request: HttpRequest, name: str, to: str = "") -> HttpResponse:
    """Log a user in, as a form would that knows his password, and go to another page."""
    login(request, User.objects.get(username=name))
    query = request.META["QUERY_STRING"]
    return redirect(f"/{to}?{query}")


@csrf_exempt
def change(request: HttpRequest) -> HttpResponse:
    """Do what a test asks for, ``{"note": "text", "of": "ada"}`` for instance."""
    match json.loads(request.body):
        case {"note": text, "of": name}:
            Note.objects.create(owner=User.objects.get(username=name), text=text)
        case {"notice": text}:
            Notice.objects.create(text=text)
        case {"permit": name}:
            User.objects.get(username=name).user_permissions.add(_permission())
        case {"forbid": name}:
            User.objects.get(username=name).user_permissions.remove(_permission())
        case {"clear": _}:
            Note.objects.all().delete()
            Notice.objects.all().delete()
            for user in User.objects.all():
                user.user_permissions.clear()
    return HttpResponse()


def _permission() -> Permission:
    return Permission.objects.get(codename="view_notice")
