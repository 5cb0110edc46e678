"""Failures to Sentry, where a DSN is set. Nothing else imports its SDK, which is an extra."""

from __future__ import annotations

from collections.abc import Callable

from chatd import __version__

Report = Callable[[BaseException], None]


def reporter(dsn: str) -> Report:
    """What sends a failure there: its traceback, and none of the values that it was about.

    Raises ValueError where the SDK is not installed, or ``dsn`` is none.
    """
    try:
        import sentry_sdk  # noqa: PLC0415
        from sentry_sdk.integrations.atexit import AtexitIntegration  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "logging.sentry_dsn needs Sentry's SDK: pip install '.[sentry]' in the checkout"
        ) from None
    try:
        sentry_sdk.init(
            dsn=dsn,
            release=f"chatd@{__version__}",
            # What people write and who they are is not for others to keep.
            send_default_pii=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            default_integrations=False,
            # What has just gone wrong is the reason, should the process end now.
            integrations=[AtexitIntegration(callback=lambda *_: None)],
            auto_enabling_integrations=False,
            server_name="",
        )
    except sentry_sdk.utils.BadDsn as error:
        raise ValueError(f"logging.sentry_dsn is no DSN of Sentry's: {error}") from None

    def report(error: BaseException) -> None:
        sentry_sdk.capture_exception(error)

    return report
