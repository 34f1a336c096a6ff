"""The packaging of django-pubsub.  The tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist
from setuptools.errors import SetupError

HERE = Path(__file__).parent
CLIENT = "media/strophe/dist"


def version() -> str:
    """The version, which stands in the package; importing it would need Django."""
    front_door = (HERE / "pubsub" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', front_door, re.MULTILINE)
    if found is None:
        raise SetupError('pubsub/__init__.py lacks a line __version__ = "…"')
    return found[1]


def check_client() -> None:
    """Stop rather than make a package without the browser client."""
    missing = [
        name
        for name in ("pubsub.client.js", "pubsub.client.mjs", "pubsub.worker.js")
        if not (HERE / CLIENT / name).is_file()
    ]
    if missing:
        raise SetupError(f"{CLIENT} lacks {', '.join(missing)}: run `make client` first")


class BuildWithClient(build_py):
    def run(self) -> None:
        if not self.editable_mode:  # a checkout may build its client later
            check_client()
        super().run()


class SdistWithClient(sdist):
    def run(self) -> None:
        check_client()
        super().run()


setup(
    name="django-pubsub",
    version=version(),
    author="the django-pubsub authors",
    description="Saves of Django models reach subscribed browsers at once, over XMPP PubSub",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    keywords=["django", "xmpp", "pubsub", "realtime", "strophe", "ejabberd"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Web Environment",
        "Framework :: Django",
        "Framework :: Django :: 4.2",
        "Framework :: Django :: 5.0",
        "Framework :: Django :: 5.1",
        "Framework :: Django :: 5.2",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP",
        "Topic :: Internet :: XMPP",
        "Typing :: Typed",
    ],
    # Two folders live outside the package and are shipped inside it.
    packages=[
        *find_packages(include=["pubsub", "pubsub.*"]),
        "pubsub.deploy",
        # An editable install comes before the client is built, and does without.
        *(["pubsub.static.pubsub"] if (HERE / CLIENT).is_dir() else []),
    ],
    package_dir={"pubsub.deploy": "deploy", "pubsub.static.pubsub": CLIENT},
    package_data={
        "pubsub": ["py.typed"],
        "pubsub.deploy": ["*.yml", "*.conf", "*.service", "ejabberd/*.erl"],
        "pubsub.static.pubsub": ["*.js", "*.mjs", "*.map", "*.txt", "*.ts", "*.mts", "types/*.ts"],
    },
    include_package_data=False,
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=[
        "Django>=4.2,<5.3",
        "xmpppy>=0.7.4,<0.8",
        "scramp>=1.4,<2",
        "flup>=1.0.3,<2",
        "PyJWT>=2.8,<3",
        # For manage.py pubsub_stack, and no extra: whoever has installed the wheel and Debian's
        # ejabberd can start developing.
        "mirakuru>=3.0,<4",
    ],
    extras_require={
        "demo": [],
        "crypto": ["cryptography>=42"],  # for keys of RS256 and EdDSA
        "test": [
            "build>=1.2",
            "cryptography>=42",
            "playwright>=1.65",  # connect_over_cdp(no_defaults=True)
            "pytest>=8",
            "pytest-django>=4.9",
            "pytest-playwright>=0.7",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "psutil>=5.9",
            "psycopg[binary]>=3.2",
            "slixmpp>=1.8",
            "trustme>=1.1",
            "websockets>=14",
        ],
        # What `make bench` compares with; figures are of these versions.
        "bench": [
            "channels==4.3.2",
            "channels_redis==4.3.0",
            "daphne==4.2.3",
            "django-eventstream==5.3.4",
            "redis[hiredis]==8.1.0",
            # uvicorn[standard] without what watches files.
            "uvicorn==0.54.0",
            "httptools==0.9.0",
            "uvloop==0.23.0",
        ],
        "lint": [
            # A later one may bring a rule that fails code which nobody has touched.
            "ruff~=0.17.6",
            "mypy~=2.4.1",
            "django-stubs~=5.2.9",
        ],
    },
)
