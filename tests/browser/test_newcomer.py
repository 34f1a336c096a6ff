"""A new project that installs the wheel and does what README.rst says, to the letter."""

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from django.test import override_settings

from pubsub import nodes
from pubsub.devstack import Child
from pubsub.devstack.erlang import GUARD, SESSIONS
from pubsub.devstack.processes import listening
from pubsub.exceptions import RequestRefused
from tests.waiting import until

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.rst").read_text(encoding="utf-8")

#: Ours may name the settings of these tests, lead to the checkout, and let nothing be compiled once
#: for all commands.
OWN = {
    "DJANGO_SETTINGS_MODULE": "mysite.settings",
    "PYTHONPATH": "",
    "PYTHONDONTWRITEBYTECODE": "",
}

URLS = """
from django.urls import path
from django.views.generic import TemplateView

urlpatterns = [path("", TemplateView.as_view(template_name="page.html"))]
"""


def readme_block(language: str, containing: str) -> str:
    """The code block of README.rst that contains a text, without its indentation."""
    blocks = re.findall(rf"\.\. code-block:: {re.escape(language)}\n\n((?:    .*\n|\n)+)", README)
    (block,) = [block for block in blocks if containing in block]
    return re.sub("^    ", "", block, flags=re.M)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Registries take their time.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: builds leave files behind, and another test may build at the same time.
    checkout = folder / "checkout"
    left_out = shutil.ignore_patterns(".*", "var", "build", "*.egg-info", "node_modules", "tests")
    shutil.copytree(CHECKOUT, checkout, ignore=left_out)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    subprocess.run([*pip, checkout], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A virtual environment with the wheel and what it says that it depends on."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    # What is used is compiled when it is imported, and that is little of it.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, wheel], check=True)
    return python


@pytest.fixture
def project(python, tmp_path):
    """What startproject makes, with the model, the call and the page of the README."""
    manage(python, tmp_path, "startproject", "mysite", ".", program=["-m", "django"])
    manage(python, tmp_path, "startapp", "blog")
    models = "from django.db import models\n\n" + readme_block("python", "class Post(models.Model)")
    (tmp_path / "blog" / "models.py").write_text(models)
    publications = readme_block("python", "# blog/publications.py")
    (tmp_path / "blog" / "publications.py").write_text(publications)
    (tmp_path / "blog" / "templates").mkdir()
    page = readme_block("html+django", "onItem(item)")
    (tmp_path / "blog" / "templates" / "page.html").write_text(page)
    (tmp_path / "mysite" / "urls.py").write_text(URLS)
    with (tmp_path / "mysite" / "settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS += ["pubsub", "blog"]\n')
    return tmp_path


def manage(python, project, *arguments, program=("manage.py",)):
    command = [python, "-W", "error", *program, *arguments]
    done = subprocess.run(
        command,
        cwd=project,
        env={**os.environ, **OWN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_client_and_the_configurations(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "pubsub/static/pubsub/pubsub.client.js",
        "pubsub/static/pubsub/pubsub.client.mjs",
        "pubsub/static/pubsub/pubsub.worker.js",
        "pubsub/static/pubsub/pubsub.client.d.ts",
        "pubsub/static/pubsub/pubsub.client.d.mts",
        "pubsub/static/pubsub/types/client.d.ts",
        "pubsub/static/pubsub/LICENSES.txt",
        "pubsub/deploy/ejabberd.yml",
        "pubsub/deploy/nginx.conf",
        *(f"pubsub/deploy/ejabberd/{module}.erl" for module in (*GUARD, *SESSIONS)),
        "pubsub/py.typed",
    } <= names
    tops = {name.partition("/")[0] for name in names}
    assert [top for top in tops if top != "pubsub" and not top.endswith(".dist-info")] == []


def has_a_subscriber() -> bool:
    """Whether somebody is subscribed to the node, which a page may have to wait for, too."""
    try:
        return len(nodes.subscriptions("/blog/Post").result(9)) == 1
    except RequestRefused:
        return False


def test_the_readme_works_word_for_word(python, project, new_context):
    lines: list[str] = []
    stack = Child(
        "pubsub_stack",
        [str(python), "manage.py", "pubsub_stack", "--xmpp-port=0", "--xmpp-tls-port=0"]
        + ["--http-port=0"],
        folder=project,
        environment={**OWN, "PYTHONUNBUFFERED": "1"},
        ready=lambda: any("PUBSUB_USER_DOMAIN" in line for line in lines),
        on_line=lambda name, line: lines.append(line),
    )
    with stack:
        printed = [line for line in lines if re.match(r"[A-Z_]+ = ", line)]
        with (project / "mysite" / "settings.py").open("a") as settings:
            settings.write("\n".join(printed) + "\n")
        manage(python, project, "check", "--fail-level", "WARNING")
        manage(python, project, "makemigrations", "blog")
        manage(python, project, "migrate", "--verbosity=0")
        port = free_port()
        server = Child(
            "runserver",
            [str(python), "manage.py", "runserver", "--noreload", str(port)],
            folder=project,
            environment=OWN,
            ready=lambda: listening(port),
        )
        with server:
            said: list[str] = []
            page = new_context().new_page()
            page.on("console", lambda m: said.append(m.text) if m.type == "log" else None)
            page.goto(f"http://127.0.0.1:{port}/")
            printed_settings = {
                name: ast.literal_eval(value)
                for name, _, value in (line.partition(" = ") for line in printed)
            }
            with override_settings(**printed_settings):
                until(has_a_subscriber, "the page has subscribed", seconds=60)
            save = "from blog.models import Post; Post.objects.create(title='Hello').save()"
            manage(python, project, "shell", "-c", save)
            # Asking the page for something lets Playwright hear what it has said meanwhile.
            until(lambda: page.title() is not None and len(said) >= 2, "both events are told")
            assert said == ["created 1 Hello", "updated 1 Hello"]
