"""Fixtures and the one hook that every part of the suite shares."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from _pytest.fixtures import SubRequest


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: SubRequest) -> object | None:
    """Run async fixtures on the test's ``io_loop``, which pytest-tornasync gives to tests only.

    An async generator's second half runs on the same loop, before the loop is closed.
    """
    function = fixturedef.func
    is_generator = inspect.isasyncgenfunction(function)
    if not (is_generator or inspect.iscoroutinefunction(function)):
        return None
    loop = request.getfixturevalue("io_loop")
    arguments = {name: request.getfixturevalue(name) for name in fixturedef.argnames}
    if is_generator:
        generator = cast(AsyncGenerator[object, None], function(**arguments))
        result = loop.run_sync(generator.__anext__)

        async def finish() -> None:
            async for _ in generator:
                raise RuntimeError(f"fixture {fixturedef.argname} yields more than once")

        request.addfinalizer(lambda: loop.run_sync(finish))
    else:
        result = loop.run_sync(lambda: function(**arguments))
    fixturedef.cached_result = (result, fixturedef.cache_key(request), None)
    return cast(object, result)
